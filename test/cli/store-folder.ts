/** Directories with the names of a disk tier and nothing in their files, for verbs whose addon is a fake. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { onTestFinished } from 'vitest'

/** A temporary directory that goes away with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-cli-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

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
