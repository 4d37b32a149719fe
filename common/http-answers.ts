import type { ServerResponse } from "node:http";
import type { Metrics } from "./metrics.ts";

/** Answers with a line of text. */
export function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

/** Answers a scrape, with 500 when the figures could not be read. */
export async function answerMetrics(
  response: ServerResponse,
  metrics: Pick<Metrics, "render">,
): Promise<void> {
  try {
    const { contentType, text } = await metrics.render();
    response.writeHead(200, { "content-type": contentType }).end(text);
  } catch {
    answerText(response, 500, "the metrics could not be read");
  }
}
