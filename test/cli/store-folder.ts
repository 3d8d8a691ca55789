/** Directories with the names of a disk tier and nothing in their files, for verbs whose addon is a fake. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { temporaryFolder } from '../support/folder.js'

/** A disk tier's root with these stores: fingerprints with the numbers of their groups. */
export function storeFolder(stores: Readonly<Record<string, readonly number[]>>): string {
  const root = temporaryFolder()
  for (const [fingerprint, groups] of Object.entries(stores)) {
    const directory = join(root, 'v1', fingerprint)
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, 'LOCK'), '')
    for (const group of groups) {
      writeFileSync(join(directory, `group-${group}.table`), '')
      writeFileSync(join(directory, `group-${group}.slab`), '')
    }
  }
  return root
}
