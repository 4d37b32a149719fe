import { describe, expect, it } from "vitest";
import { readJsonLines } from "./jsonl.ts";
import { formatProblem } from "./problem.ts";

const times = '"startTime":"2030-01-31T09:00:00Z","endTime":"2030-01-31T10:00:00+01:00"';
const later = '"startTime":"2030-01-31T09:00:00Z","endTime":"2030-01-31T10:00:00Z"';

async function read(...chunks: readonly (string | Uint8Array)[]) {
  const source = async function* () {
    for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
  };
  const ids: string[] = [];
  const problems: string[] = [];
  const conferences = [];
  for await (const result of readJsonLines(source(), "-")) {
    if ("problem" in result) problems.push(formatProblem(result.problem));
    else {
      ids.push(`${result.item.line} ${result.item.conference.conferenceId}`);
      conferences.push(result.item.conference);
    }
  }
  return { ids, problems, conferences };
}

describe("readJsonLines", () => {
  it("reads the proto JSON form, in either spelling of the names, with and without line ends", async () => {
    const { ids, problems, conferences } = await read(
      `\ufeff{"conferenceId":"a",${later},"weight":3,"requiredLabels":{"zone":"x"}}\r\n\n`,
      `{"conference_id":"b","start_time":"2030-01-31T09:00:00.5Z","end_time":"2030-01-31T12:00:00+01:00"}`,
    );
    expect(problems).toEqual([]);
    expect(ids).toEqual(["1 a", "3 b"]);
    expect(conferences[0]).toMatchObject({ weight: 3, requiredLabels: { zone: "x" } });
  });

  it("reads lines and characters that chunks cut", async () => {
    const bytes = Buffer.from(
      `{"conferenceId":"a","displayName":"Größe",${later}}\n{"conferenceId":"b",${later}}\n`,
    );
    const { ids, conferences } = await read(...Array.from(bytes, (byte) => Uint8Array.of(byte)));
    expect(ids).toEqual(["1 a", "2 b"]);
    expect(conferences[0]?.displayName).toBe("Größe");
  });

  it("derives missing IDs from what the line says, not from how it is written", async () => {
    const one = await read(`{${later},"displayName":"x","requiredLabels":{"a":"1","b":"2"}}`);
    const same = await read(
      `{ "requiredLabels":{"b":"2","a":"1"}, "displayName":"x", ${later}, "state":"STATE_ACTIVE" }`,
    );
    const other = await read(`{${later},"displayName":"y"}`);
    expect(one.conferences[0]?.conferenceId).toMatch(/^imp-[a-z2-7]{52}$/);
    expect(same.conferences[0]?.conferenceId).toBe(one.conferences[0]?.conferenceId);
    expect(other.conferences[0]?.conferenceId).not.toBe(one.conferences[0]?.conferenceId);
  });

  it("reports what is wrong with a line, and reads the others", async () => {
    const { ids, problems } = await read(
      [
        "{",
        "[]",
        `{"conferenceId":"a",${later}}`,
        `{"conferenceId":"UPPER",${later}}`,
        '{"conferenceId":"b","endTime":"2030-01-31T10:00:00Z"}',
        `{"conferenceId":"c",${times}}`,
        `{"conferenceId":"d",${later},"color":"red"}`,
        `{"conferenceId":"e",${later},"weight":-1}`,
        `{"conferenceId":"a",${later}}`,
        `{"conferenceId":"f",${later},"weight":100001}`,
        `{"displayName":"${"x".repeat(1_100_000)}"}`,
        `{"conferenceId":"g",${later}}`,
      ].join("\n"),
    );
    expect(ids).toEqual(["3 a", "12 g"]);
    expect(problems).toEqual([
      expect.stringMatching(/^-:1: not JSON: /),
      "-:2: not a JSON object",
      expect.stringMatching(/^-:4: conferenceId must be 1 to 63 of/),
      "-:5: startTime is required",
      "-:6: endTime must be after startTime",
      expect.stringMatching(/^-:7: not a conference: .*color/),
      expect.stringMatching(/^-:8: not a conference: .*weight/),
      "-:9: the conference a is on line 3 already",
      "-:10: weight must be at most 100000",
      "-:11: the line is longer than 1048576 characters",
    ]);
  });

  it("does not hold a line that never ends", async () => {
    const chunk = "x".repeat(1024 * 1024);
    const { problems } = await read(...Array.from({ length: 20 }, () => chunk));
    expect(problems).toEqual(["-:1: the line is longer than 1048576 characters"]);
  });
});
