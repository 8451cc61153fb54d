import type { Expected } from "./vault-checks.ts";
import type { Fields } from "./vault-kv-data.ts";

/** Where one delivery is, as the policy says; paths without slashes at either end. */
export interface KvPlace {
  readonly mount: string;
  readonly path: string;
  readonly kvVersion: 1 | 2;
  /** Below the mount. */
  readonly staging: string;
  readonly secret: string;
  readonly fields: Fields;
  /** No version waits here. */
  readonly mirror: boolean;
  readonly expect: Expected;
}
