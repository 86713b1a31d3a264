import { isDumontError } from '@dumont/shared/util/errors.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import { listPendingEnrolments, type PendingEnrolment } from '../../store/enrolments.ts';
import { enrol, revokeEnrolment } from '../../workspaces/enrolment.ts';
import { readPage } from '../cursor.ts';
import { FailureLimit } from '../failure-limit.ts';
import { requireInstance } from '../find.ts';
import type { Handlers } from '../handler.ts';
import { publicUrlOf } from '../public-url.ts';
import type { ApiServices } from '../services.ts';

export function enrolmentHandlers(
  services: ApiServices,
): Pick<Handlers, 'addMachine' | 'enrol' | 'listEnrolments' | 'revokeEnrolment'> {
  const { db, clock, log, operations } = services;
  const parts = { db, clock, onChange: () => services.onChange() };
  const failures = new FailureLimit(clock);
  return {
    addMachine: async ({ body, caller }) => {
      // First: a machine that nobody can be told how to add is not written down.
      const url = publicUrlOf(services.publicUrl, caller);
      const added = await operations.addMachine(body);
      const installCommand = `curl -fsSL ${url}/install.sh | sh -s -- --token ${added.enrolToken}`;
      return { ...added, installCommand };
    },
    enrol: async ({ body, caller }) => {
      const { address } = caller;
      failures.check(address);
      try {
        return await enrol(parts, body, address);
      } catch (error) {
        if (isDumontError(error, 'UNAUTHORIZED')) {
          failures.failed(address);
          const { hostname } = body;
          log.warn({ event: 'enrolment.refused', address, hostname, reason: error.message }, 'enrolment refused');
        }
        throw error;
      }
    },
    listEnrolments: async ({ query }) => {
      const { items, next } = await readPage(query, {
        name: 'enrolments',
        keyOf: (row: PendingEnrolment) => row.instanceId,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) => listPendingEnrolments(db, { before: key, limit }),
      });
      return { items: [...items], next };
    },
    revokeEnrolment: async ({ params }) => {
      const instance = await requireInstance(db, params.instanceId);
      return { instanceId: instance.id, revoked: await revokeEnrolment(parts, instance) };
    },
  };
}
