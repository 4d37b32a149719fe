import { createValidator, type Validator } from "../../common/rpc/validator.ts";

/** Checks the one ID that a request consists of. */
export function readId(field: string, id: string): string {
  const check = createValidator();
  check.id(field, id);
  check.done();
  return id;
}

/** Checks a revision to resume from: 0 or one that was handed out. */
export function checkRevision(check: Validator, revision: bigint): void {
  if (revision < 0n) check.violation("revision", "must be 0 or a revision from an earlier message");
}
