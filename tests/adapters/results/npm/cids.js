// Prints one JSON line per line of standard input {"path", "chunkSize", "maxChildrenPerNode"}: the CIDv0 of
// that file, imported the way `ipfs add` does by default, and its CIDv1 text. Blocks are dropped as they come.
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const nowhere = { async put (cid) { return cid } }

for await (const line of createInterface({ input: process.stdin })) {
  const { path, chunkSize, maxChildrenPerNode } = JSON.parse(line)
  const options = {
    cidVersion: 0,
    rawLeaves: false,
    leafType: 'file',
    chunker: fixedSize({ chunkSize }),
    layout: balanced({ maxChildrenPerNode })
  }
  for await (const entry of importer([{ path: 'file', content: createReadStream(path) }], nowhere, options)) {
    console.log(JSON.stringify({ v0: entry.cid.toString(), v1: entry.cid.toV1().toString() }))
  }
}
