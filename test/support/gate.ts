import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** `open`: bytes pass; `shut`: connections are refused, and those there were are cut; `silent`: nothing comes back. */
export type GateState = "open" | "shut" | "silent";

export interface Gate {
  readonly port: number;
  set(state: GateState): Promise<void>;
  close(): Promise<void>;
}

/** Stands before one server on a port of its own, so that it is gone for those who come this way and for no others. */
export async function startGate(target: number): Promise<Gate> {
  const open = new Set<Socket>();
  let state: GateState = "open";
  const pass = (incoming: Socket): void => {
    const outgoing = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      open.add(from);
      from
        .on("data", (bytes) => void (state === "open" && to.write(bytes)))
        .on("error", () => {})
        .on("close", () => {
          open.delete(from);
          to.destroy();
        });
    }
  };
  const listen = async (port: number): Promise<Server> => {
    const server = createServer(pass).listen(port, "127.0.0.1");
    await once(server, "listening");
    return server;
  };
  let server = await listen(0);
  const { port } = server.address() as AddressInfo;
  const cut = async (): Promise<void> => {
    if (server.listening) server.close();
    for (const socket of open) socket.destroy();
    if (server.listening) await once(server, "close");
  };
  return {
    port,
    set: async (next) => {
      // What was swallowed meanwhile is missing: such a connection is of no more use.
      if (next === "shut" || state === "silent") await cut();
      state = next;
      if (next !== "shut" && !server.listening) server = await listen(port);
    },
    close: cut,
  };
}
