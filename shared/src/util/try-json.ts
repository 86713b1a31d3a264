/** The value of a JSON text; undefined when it is none, so that a schema can say what is missing. */
export function tryParseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
