import type { HandlerContext, MethodImplSpec } from "@connectrpc/connect";
import type { MountedService } from "../../common/rpc/grpc-adapter.ts";
import { REVISION_HEADER, readRevision, STALE_HEADER } from "../../common/rpc/revision-header.ts";
import type { OperationContext } from "../operations/context.ts";
import { reachKnown } from "../operations/known-revision.ts";
import { fromStoreError } from "../services/store-status.ts";

/**
 * A service that answers nobody from a view older than what the caller has seen, and tells the view's revision and whether
 * the store behind it is lost.
 */
export function reachingKnown(service: MountedService, context: OperationContext): MountedService {
  const reach = async ({ requestHeader, signal }: HandlerContext) => {
    const known = readRevision(requestHeader.get(REVISION_HEADER));
    if (known === undefined) return;
    try {
      await reachKnown(context, known, signal);
    } catch (err) {
      throw fromStoreError(err);
    }
  };
  return {
    desc: service.desc,
    methods: service.methods.map((spec): MethodImplSpec => {
      if (spec.kind === "unary") {
        const impl: typeof spec.impl = async (request, call) => {
          await reach(call);
          const response = await spec.impl(request, call);
          call.responseTrailer.set(REVISION_HEADER, String(context.view.revision));
          if (!context.feed.fresh) call.responseTrailer.set(STALE_HEADER, "true");
          return response;
        };
        return { ...spec, impl };
      }
      if (spec.kind === "server_streaming") {
        const impl: typeof spec.impl = async function* (request, call) {
          await reach(call);
          yield* spec.impl(request, call);
        };
        return { ...spec, impl };
      }
      return spec;
    }),
  };
}
