/** A host of the simulated market. */
export interface SeedHost {
  readonly id: string;
  readonly city: string;
  readonly stateprovince: string;
  readonly country: string;
  readonly tier: number;
  readonly gpu: string;
  readonly gpuCount: number;
  readonly usd: number;
  readonly vcpus: number;
  readonly ramGb: number;
  readonly storageGb: number;
  /** Per hour: a vCPU, a GB of memory, a GB of disk. */
  readonly besides: readonly [number, number, number];
}

const US = 'United States';

/** Invented, but for the spelling of the models and the size of the prices. */
export const TENSORDOCK_SEED: readonly SeedHost[] = [
  host(1, ['Austin', 'Texas', US, 3], ['geforcertx4090-pcie-24gb', 4, 0.35], [48, 192, 2_000]),
  host(2, ['Chubbuck', 'Idaho', US, 1], ['geforcertx3090-pcie-24gb', 6, 0.19], [64, 256, 4_000]),
  host(3, ['Toronto', 'Ontario', 'Canada', 2], ['rtxa4000-pcie-16gb', 8, 0.11], [64, 256, 3_000]),
  dear(host(4, ['Frankfurt', 'Hesse', 'Germany', 3], ['a100-pcie-80gb', 2, 1.22], [64, 512, 8_000])),
  host(5, ['Stockholm', 'Stockholm', 'Sweden', 0], ['geforcertx3060-pcie-12gb', 2, 0.09], [16, 64, 600]),
  dear(host(6, ['São Paulo', 'São Paulo', 'Brazil', 0], ['geforcertx4090-pcie-24gb', 1, 0.41], [24, 128, 900])),
  dear(host(7, ['Manassas', 'Virginia', US, 4], ['h100-sxm5-80gb', 8, 2.25], [192, 1_800, 24_000])),
];

function host(
  number: number,
  [city, stateprovince, country, tier]: readonly [string, string, string, number],
  [gpu, gpuCount, usd]: readonly [string, number, number],
  [vcpus, ramGb, storageGb]: readonly [number, number, number],
): SeedHost {
  const id = `11111111-0000-4000-8000-00000000000${number}`;
  const place = { city, stateprovince, country, tier };
  return { id, ...place, gpu, gpuCount, usd, vcpus, ramGb, storageGb, besides: [0.003, 0.002, 0.00005] };
}

function dear(seed: SeedHost): SeedHost {
  return { ...seed, besides: [0.004, 0.003, 0.00006] };
}
