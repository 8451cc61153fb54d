import { hash, randomBytes } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HANDLE = 8;
const SECRET = 32;
const CHECKSUM = 6;
const SHAPE = new RegExp(`^kt_[0-9A-Za-z]{${HANDLE}}_[0-9A-Za-z]{${SECRET + CHECKSUM}}$`);

/** A new value and the part of it that may be shown. */
export interface Minted {
  readonly value: string;
  /** `kt_` and the handle: tells a person which key a found value was, and gives nothing of it away. */
  readonly prefix: string;
}

/**
 * Mints `kt_<handle>_<secret><checksum>` in base62: a random handle of its own (neither it nor the secret can
 * be computed from the key id, nor the key id from them), 32 secret digits (190 bits), and 6 digits of checksum,
 * so that a mistyped or cut value is told from an unknown one without asking anybody.
 */
export function mintValue(): Minted {
  const prefix = `kt_${randomDigits(HANDLE)}`;
  const body = `${prefix}_${randomDigits(SECRET)}`;
  return { value: body + checksum(body), prefix };
}

/** Whether a text has the shape and the checksum of a value; says nothing about whether the key exists. */
export function isWellFormed(value: string): boolean {
  return SHAPE.test(value) && checksum(value.slice(0, -CHECKSUM)) === value.slice(-CHECKSUM);
}

/** What is kept of a value: its SHA-256 as hex. Plain, since 190 random bits cannot be guessed. */
export function hashOf(value: string): string {
  return hash("sha256", value, "hex");
}

/** `key_<16 hex>`: public, random, unrelated to the value. */
export function mintKeyId(): string {
  return `key_${randomBytes(8).toString("hex")}`;
}

function checksum(body: string): string {
  let rest = Number.parseInt(hashOf(body).slice(0, 8), 16);
  let digits = "";
  for (let place = 0; place < CHECKSUM; place++) {
    digits = ALPHABET.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

/** Bytes from 248 on are thrown away: 248 = 4 × 62, so every digit is equally likely. */
function randomDigits(count: number): string {
  let digits = "";
  while (digits.length < count) {
    for (const byte of randomBytes(count)) {
      if (byte < 248 && digits.length < count) digits += ALPHABET.charAt(byte % 62);
    }
  }
  return digits;
}
