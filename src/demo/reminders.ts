import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface ReminderBox {
  readonly url: string;
  close(): void;
}

/** Where the webhooks of the demo go: hears which consumers are reminded, as a team's chat would. */
export async function openReminderBox(onReminder: (who: readonly string[]) => void): Promise<ReminderBox> {
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      response.writeHead(204).end();
      onReminder(named(body));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function named(body: string): readonly string[] {
  const { data } = JSON.parse(body) as { readonly data: { readonly who?: string } };
  return (data.who ?? "").split(", ").filter((who) => who !== "");
}
