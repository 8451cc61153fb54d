export { naive as real } from "./naive.ts";
