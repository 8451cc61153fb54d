/** A request that cannot be honoured: its HTTP status, a stable word for programs and our own words for people. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}
