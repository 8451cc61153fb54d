import { adopt } from "../../src/engine/adopt.ts";
import { runSecret } from "../../src/engine/run.ts";
import { say } from "../../src/engine/say.ts";
import type { Engine } from "./engine.ts";

/** The engine as it is shipped. */
export const real: Engine = { runSecret, say, adopt };
