type Environment = Readonly<Record<string, string>>;

/**
 * The environment without what install/supervisor.sh sets for the agent's own memory: a workload's allocator is the
 * workload's business. Tunables that the operator chose stay. Pure.
 */
export function withoutOwnTunables({ DUMONT_OWN_TUNABLES: own, ...others }: Environment): Environment {
  const { GLIBC_TUNABLES: set, ...rest } = others;
  return own !== undefined && set === own ? rest : others;
}
