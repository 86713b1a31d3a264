/** Of the agent and of object stores; the user's own secrets are the user's business. */
const SECRET_VARIABLES =
  /^(?:R2_API_TOKEN|DUMONT_(?:(?:AGENT|API|ENROL)_)?TOKEN|SNAPSHOT_(?:NEW_)?PASSWORD|(?:S3|B2|R2|WASABI|MINIO)_(?:KEY_ID|APPLICATION_KEY|SESSION_TOKEN))$/;

type Environment = Readonly<Record<string, string | undefined>>;

/** An environment for a process that is not ours. Pure. */
export function withoutSecretVariables(environment: Environment): Record<string, string> {
  const kept = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined || SECRET_VARIABLES.test(name) ? [] : [[name, value] as const],
  );
  return Object.fromEntries(kept);
}

/** Takes the secrets out of this process's own environment, once they were read: no child inherits them then. */
export function forgetSecretVariables(environment: Record<string, string | undefined>): void {
  for (const name of Object.keys(environment)) {
    if (SECRET_VARIABLES.test(name)) delete environment[name];
  }
}
