/** What is wrong with a calendar, in our own words: completes "the calendar …". */
export class CalendarError extends Error {
  constructor(
    message: string,
    readonly hint?: string,
  ) {
    super(message);
  }
}
