import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
  openSync,
  closeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Random } from '@dumont/shared/util/random.ts';

/** Makes one random change below a folder, as programs make them. */
export function editAtRandom(root: string, random: Random): void {
  const pick = (count: number) => Math.floor(random.next() * count);
  const { files, folders } = list(root);
  const folder = folders[pick(folders.length)] ?? '';
  const fresh = join(root, folder, `n${pick(40)}`);
  const file = join(root, files[pick(files.length)] ?? 'none');
  const hasFile = files.length > 0 && existsSync(file);
  const isFree = lstatSync(fresh, { throwIfNoEntry: false }) === undefined;
  const bytes = () => Buffer.alloc(pick(3) === 0 ? pick(700_000) : pick(3_000), `${random.next()}`);
  switch (pick(14)) {
    case 0:
    case 1:
      if (isFree) writeFileSync(fresh, bytes());
      return;
    case 2:
      if (isFree) mkdirSync(fresh);
      return;
    case 3:
      if (hasFile) appendFileSync(file, bytes());
      return;
    case 4:
      if (hasFile) rmSync(file);
      return;
    case 5:
      if (hasFile && isFree) renameSync(file, fresh);
      return;
    case 6:
      if (hasFile && isFree) linkSync(file, fresh);
      return;
    case 7:
      if (isFree) symlinkSync(`to-${pick(9)}`, fresh);
      return;
    case 8:
      if (hasFile) chmodSync(file, 0o600 + pick(64));
      return;
    case 9:
      if (hasFile) truncateSync(file, pick(500_000));
      return;
    case 10:
      if (hasFile) utimesSync(file, 1_600_000_000 + pick(1_000_000), 1_600_000_000 + pick(1_000_000));
      return;
    case 11:
      if (hasFile) overwriteAt(file, pick(lstatSync(file).size + 1), Buffer.from(`${random.next()}`));
      return;
    case 12:
      if (folder !== '' && isFree && !fresh.startsWith(join(root, folder))) renameSync(join(root, folder), fresh);
      else if (folder !== '' && pick(3) === 0) rmSync(join(root, folder), { recursive: true });
      return;
    case 13:
      if (hasFile) {
        writeFileSync(`${file}~`, bytes());
        renameSync(`${file}~`, file);
      }
  }
}

function overwriteAt(path: string, offset: number, bytes: Buffer): void {
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

function list(root: string): { readonly files: readonly string[]; readonly folders: readonly string[] } {
  const files: string[] = [];
  const folders: string[] = [''];
  for (const found of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(found.parentPath, found.name).slice(root.length + 1);
    if (found.isFile()) files.push(path);
    if (found.isDirectory()) folders.push(path);
  }
  return { files, folders };
}
