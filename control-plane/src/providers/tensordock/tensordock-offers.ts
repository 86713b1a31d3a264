import { microUsd } from '@dumont/shared/model/money.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type { HostNode } from './wire.ts';

export const TENSORDOCK_PROVIDER_NAME = 'tensordock';

/** What we ask for beside one GPU, as far as a host gives as much per GPU. */
const VCPUS = 8;
const RAM_GB = 32;
/** Below these a machine is of no use to a GPU. */
const LEAST_VCPUS = 2;
const LEAST_RAM_GB = 8;

/** What one GPU of a host is rented with. */
export interface TensorDockShape {
  readonly vcpuCount: number;
  readonly ramGb: number;
  readonly storageGb: number;
}

/** One GPU of a kind on a host, with what belongs to it; null when the host has too little left. Pure. */
export function shapeOn({ available_resources: left }: HostNode, diskGb: number): TensorDockShape | null {
  const vcpuCount = even(Math.min(VCPUS, left.vcpu_count, left.max_vcpus_per_gpu || VCPUS));
  const ramGb = even(Math.min(RAM_GB, left.ram_gb, left.max_ram_per_gpu || RAM_GB));
  const fits = vcpuCount >= LEAST_VCPUS && ramGb >= LEAST_RAM_GB && left.storage_gb >= diskGb;
  return fits ? { vcpuCount, ramGb, storageGb: diskGb } : null;
}

/** The offers of a host: one GPU of each kind it has left. TensorDock's v2 knows no spot price, so all are on-demand. Pure. */
export function offersOf(node: HostNode, diskGb: number): readonly Offer[] {
  const shape = shapeOn(node, diskGb);
  if (shape === null) return [];
  const { pricing, location } = node;
  const besides =
    shape.vcpuCount * pricing.per_vcpu_hr +
    shape.ramGb * pricing.per_gb_ram_hr +
    shape.storageGb * pricing.per_gb_storage_hr;
  return node.available_resources.gpus
    .filter(({ availableCount }) => availableCount >= 1)
    .map((gpu) => ({
      provider: TENSORDOCK_PROVIDER_NAME,
      offerId: `${node.id}/${gpu.v0Name}`,
      machineId: node.id,
      gpuName: gpuNameOf(gpu.v0Name),
      gpuCount: 1,
      diskGb: shape.storageGb,
      priceMicroUsdPerHour: microUsd(gpu.price_per_hr + besides),
      reliability: node.uptime_percentage / 100,
      region: [location.city, location.stateprovince, location.country].filter((part) => part !== '').join(', '),
      kind: 'on-demand',
    }));
}

/** The host and the GPU of an offer of ours; null for anything else. Pure. */
export function parseOfferId(offerId: string): { readonly nodeId: string; readonly v0Name: string } | null {
  const [nodeId = '', v0Name = '', ...rest] = offerId.split('/');
  return /^[\w-]+$/.test(nodeId) && v0Name !== '' && rest.length === 0 ? { nodeId, v0Name } : null;
}

/** Chips that other markets tell apart by their slot, or call otherwise. */
const CHIPS: ReadonlyMap<string, string> = new Map([
  ['a100-pcie', 'A100 PCIE'],
  ['a100-sxm4', 'A100 SXM4'],
  ['h100-pcie', 'H100 PCIE'],
  ['h100-sxm5', 'H100 SXM'],
  ['v100', 'Tesla V100'],
  ['teslav100', 'Tesla V100'],
  ['teslat4', 'Tesla T4'],
]);

/** `geforcertx4090-pcie-24gb` as other markets write it, `RTX 4090`, so that one policy fits all. Pure. */
export function gpuNameOf(v0Name: string): string {
  const chip = v0Name.replace(/-\d+gb$/, '');
  const [model = ''] = chip.split('-');
  const { line, number, ti } = /^(?:geforce)?(?<line>rtx|gtx)(?<number>a?\d+)(?<ti>ti)?$/.exec(model)?.groups ?? {};
  if (line !== undefined) return `${line} ${number}`.toUpperCase() + (ti === undefined ? '' : ' Ti');
  return CHIPS.get(chip) ?? CHIPS.get(model) ?? model.toUpperCase();
}

function even(value: number): number {
  return Math.floor(value / 2) * 2;
}
