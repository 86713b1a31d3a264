/** Version of this control plane, as the API and `--version` tell it. */
export const VERSION = '0.1.0';
