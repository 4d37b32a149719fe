import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../../test/support/fake-clock.ts";
import { createTokens } from "./tokens.ts";

describe("tokens", () => {
  it("are obtained once for all who need one, and once more after a refusal", async () => {
    let logins = 0;
    const tokens = createTokens(async () => `token-${++logins}`, createFakeClock());
    expect(await Promise.all([tokens.current(), tokens.current()])).toEqual(["token-1", "token-1"]);
    // Many calls with the old token fail at once; only the first of them matters.
    tokens.refused("token-1");
    const renewed = tokens.current();
    tokens.refused("token-1");
    expect(await renewed).toBe("token-2");
    tokens.refused("token-1");
    expect(await tokens.current()).toBe("token-2");
    expect(logins).toBe(2);
  });

  it("are not asked for again and again when the login fails", async () => {
    const clock = createFakeClock();
    let logins = 0;
    let works = false;
    const tokens = createTokens(async () => {
      logins += 1;
      if (!works) throw new Error("wrong password");
      return "token";
    }, clock);
    for (let call = 0; call < 5; call++) await expect(tokens.current()).rejects.toThrow("wrong password");
    expect(logins).toBe(1);
    works = true;
    await clock.advance(100);
    expect(await tokens.current()).toBe("token");
    expect(logins).toBe(2);
  });
});
