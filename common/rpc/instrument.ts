import { Code, type ConnectError, type HandlerContext, type MethodImplSpec } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { ServedCall } from "../metrics.ts";
import type { MountedService } from "./grpc-adapter.ts";
import { abortStatus, reasonName, reasonOf, toStatus } from "./status.ts";

/**
 * Logs every call of a service once it is over, and turns whatever its handlers throw into a status.
 * @param onServed told of each call
 */
export function instrumented(
  service: MountedService,
  logger: Logger,
  clock: Clock,
  onServed?: (call: ServedCall) => void,
): MountedService {
  const begin = ({ method, protocolName }: HandlerContext) => {
    const startedMs = clock.monotonicMs();
    return (error?: ConnectError) => {
      const reason = error && reasonOf(error);
      const durationMs = clock.monotonicMs() - startedMs;
      const name = `${method.parent.typeName}/${method.name}`;
      onServed?.({ method: name, code: error ? Code[error.code] : "OK", durationMs });
      const fields = {
        method: name,
        protocol: protocolName,
        code: error ? Code[error.code] : "Ok",
        ...(reason === undefined ? {} : { reason: reasonName(reason) }),
        ms: Math.round(durationMs * 10) / 10,
      };
      if (error?.code === Code.Internal)
        logger.error({ ...fields, err: error.cause ?? error }, "call failed");
      else logger.debug(error ? { ...fields, detail: error.rawMessage } : fields, "call served");
    };
  };
  return {
    desc: service.desc,
    methods: service.methods.map((spec): MethodImplSpec => {
      if (spec.kind === "unary") {
        const impl: typeof spec.impl = async (request, context) => {
          const finish = begin(context);
          try {
            const response = await spec.impl(request, context);
            finish();
            return response;
          } catch (err) {
            const error = toStatus(err);
            finish(error);
            throw error;
          }
        };
        return { ...spec, impl };
      }
      if (spec.kind === "server_streaming") {
        const impl: typeof spec.impl = async function* (request, context) {
          const finish = begin(context);
          let error: ConnectError | undefined;
          try {
            yield* spec.impl(request, context);
          } catch (err) {
            error = toStatus(err);
            throw error;
          } finally {
            finish(error ?? (context.signal.aborted ? abortStatus(context.signal) : undefined));
          }
        };
        return { ...spec, impl };
      }
      return spec;
    }),
  };
}
