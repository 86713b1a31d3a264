#!/usr/bin/env node
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { envExample } from './env-example.ts';

await writeFile(join(import.meta.dirname, 'env.example'), envExample());
