import { access, readFile } from 'node:fs/promises';

/** The kind of container this process lives in. */
export interface Container {
  /** As people call it: `Vast.ai`, `Docker`, … */
  readonly name: string;
  /** How its owner gives it another GPU, limit or start-up command. */
  readonly onStart: string;
}

export interface ContainerSigns {
  readonly vastId: string | undefined;
  readonly hasDockerFile: boolean;
  readonly hasPodmanFile: boolean;
  /** Of process 1. */
  readonly cgroup: string;
  /** Set by systemd-nspawn, LXC and Podman. */
  readonly containerVariable: string | undefined;
  readonly isKubernetes: boolean;
}

const VAST = 'its onstart script (/root/onstart.sh)';
const OTHER = 'the command the container is started with';

/** Null on a computer of its own. */
export async function findContainer(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Container | null> {
  const [hasDockerFile, hasPodmanFile, cgroup] = await Promise.all([
    exists('/.dockerenv'),
    exists('/run/.containerenv'),
    readFile('/proc/1/cgroup', 'utf8').catch(() => ''),
  ]);
  return nameContainer({
    vastId: environment['VAST_CONTAINERLABEL'] ?? environment['CONTAINER_ID'],
    hasDockerFile,
    hasPodmanFile,
    cgroup,
    containerVariable: environment['container'],
    isKubernetes: environment['KUBERNETES_SERVICE_HOST'] !== undefined,
  });
}

/** Pure. */
export function nameContainer(signs: ContainerSigns): Container | null {
  const { vastId, cgroup, containerVariable } = signs;
  if (vastId !== undefined && vastId !== '') return { name: `Vast.ai container ${vastId}`, onStart: VAST };
  if (signs.isKubernetes || cgroup.includes('kubepods')) return { name: 'Kubernetes pod', onStart: OTHER };
  if (signs.hasPodmanFile || cgroup.includes('libpod')) return { name: 'Podman container', onStart: OTHER };
  if (signs.hasDockerFile || /docker|containerd/.test(cgroup)) return { name: 'Docker container', onStart: OTHER };
  if (containerVariable !== undefined && containerVariable !== '') {
    return { name: `${containerVariable} container`, onStart: OTHER };
  }
  return cgroup.includes('/lxc') ? { name: 'LXC container', onStart: OTHER } : null;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
