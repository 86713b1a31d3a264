import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

/** Takes a request for another protocol, answers it and owns its socket from then on; or returns false. */
export type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean;

/** Where requests for other protocols, such as WebSockets, come in. */
export interface UpgradeSource {
  /** Handlers are asked in the order they came; what none of them takes is answered 404. @returns to be called when it is over */
  onUpgrade(handler: UpgradeHandler): () => void;
}
