import type { Interceptor } from "@connectrpc/connect";
import { STALE_HEADER } from "../../common/rpc/revision-header.ts";

/** Calls back for each answer that shows the last known state because the control plane has lost its store. */
export function observeStaleAnswers(onStale: () => void): Interceptor {
  return (next) => async (request) => {
    const response = await next(request);
    if (!response.stream && response.trailer.get(STALE_HEADER) === "true") onStale();
    return response;
  };
}
