/** The one secret of every schedule. */
export const NAME = "payments";
/** Starts every value of the simulation; nothing that is not a value may hold it. */
export const CANARY = "CANARY";
