import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Heartbeat, Sample } from '@dumont/shared/protocol/heartbeat.ts';
import type { Hello } from '@dumont/shared/protocol/hello.ts';
import type { Notice } from '@dumont/shared/protocol/notice.ts';

/**
 * Facts going up from the sockets. Calls are synchronous and must not throw or block. A session that supersedes an older
 * one of the same instance gives `connected` alone: the instance was never away.
 */
export interface HubListener {
  connected(instanceId: InstanceId, hello: Hello): void;
  /**
   * `abrupt` is true when the TCP connection ended without a WebSocket close from the agent; never when this side ended
   * the session.
   */
  disconnected(instanceId: InstanceId, info: { readonly abrupt: boolean; readonly code: number }): void;
  heartbeat(instanceId: InstanceId, beat: Heartbeat, receivedMonotonicMs: number): void;
  sample(instanceId: InstanceId, sample: Sample): void;
  notice(instanceId: InstanceId, notice: Notice): void;
}
