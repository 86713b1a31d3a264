import type { Random } from '@dumont/shared/util/random.ts';

/** Rows that are as old as each other come in the order of their ids: until it is disposed, ids too follow from the seed. */
export function seedIds(random: Random): Disposable {
  const { crypto } = globalThis;
  const real = crypto.getRandomValues.bind(crypto);
  const draw = <View extends ArrayBufferView>(view: View): View => {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    for (let index = 0; index < bytes.length; index += 1) bytes[index] = Math.floor(random.next() * 256);
    return view;
  };
  Object.defineProperty(crypto, 'getRandomValues', { configurable: true, writable: true, value: draw });
  return {
    [Symbol.dispose]() {
      Object.defineProperty(crypto, 'getRandomValues', { configurable: true, writable: true, value: real });
    },
  };
}
