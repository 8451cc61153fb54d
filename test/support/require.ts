/**
 * For what a machine may not have: says clearly what is left out, and fails where everything is required
 * (`KEYTURN_REQUIRE_LIVE=1`).
 *
 * @returns whether it is there
 */
export function needs(what: string, there: boolean): boolean {
  if (there) return true;
  if (process.env["KEYTURN_REQUIRE_LIVE"] === "1") throw new Error(`this machine has no ${what}`);
  console.log(`LEFT OUT: this machine has no ${what}`);
  return false;
}
