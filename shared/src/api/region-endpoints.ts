import { z } from 'zod';
import type { Endpoint } from './endpoint.ts';

/** A region of Google Cloud where a standby can be rented. */
export const regionViewSchema = z.object({
  name: z.string(),
  city: z.string(),
  /** ISO 3166-1 alpha-2. */
  country: z.string(),
  lat: z.number(),
  lon: z.number(),
  zones: z.array(z.string()),
  /** An e2-medium on Spot without disk and address, by the table of prices; null where none is sold. */
  spotMicroUsdPerHour: z.int().nullable(),
  /** Great-circle distance from the place asked about, and the round trip to plan with; null without one. */
  km: z.number().nullable(),
  plannedRttMs: z.number().nullable(),
});
export type RegionView = z.infer<typeof regionViewSchema>;

/** Where on Earth. */
export const REGION_ENDPOINTS = {
  listRegions: {
    method: 'GET',
    path: '/regions',
    summary: 'Regions for standbys: nearest first to a place or an IP address (near=Texas, US), else by name.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({ near: z.string().min(1).max(200).optional() }),
    body: z.strictObject({}),
    response: z.object({
      near: z
        .object({
          lat: z.number(),
          lon: z.number(),
          country: z.string().nullable(),
          /** How much of the words was understood; an address is known to a country at best. */
          precision: z.enum(['city', 'state', 'country', 'continent']),
        })
        .nullable(),
      items: z.array(regionViewSchema),
    }),
  },
} as const satisfies Record<string, Endpoint>;
