// Called by car-tools.sh: node car-tools.mjs FILE.car CONTENT_CID CONTENT_FILE
import { strict as assert } from 'node:assert'
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import { CarBlockIterator } from '@ipld/car'
import * as cbor from '@ipld/dag-cbor'
import { exporter } from 'ipfs-unixfs-exporter'
import { CID } from 'multiformats/cid'

const [file, content, original] = process.argv.slice(2)
const car = await CarBlockIterator.fromIterable(createReadStream(file))
const roots = await car.getRoots()
const blocks = new Map()
for await (const { cid, bytes } of car) {
  assert.equal(cid.multihash.code, 0x12, 'every CID is by SHA-256')
  assert.deepEqual(Buffer.from(cid.multihash.digest), createHash('sha256').update(bytes).digest(), `${cid}`)
  blocks.set(cid.toString(), bytes)
}
assert.equal(car.version, 1)
for (const root of roots) assert(blocks.has(root.toString()), `root ${root} is not in the file`)

const manifest = cbor.decode(blocks.get(roots[0].toString()))
assert.equal(manifest.format, 'walytis/chain-export/1')
assert.equal(manifest.chain.toString(), roots[1].toString())
assert.equal(manifest.blocks, 3)
assert.equal(manifest.blobs, 1)

// Newer exporters want bytes in pieces, older ones whole.
const blockstore = {
  has: (cid) => blocks.has(cid.toString()),
  get: async function * (cid) { yield blocks.get(cid.toString()) },
}
const entry = await exporter(CID.parse(content), blockstore)
const parts = []
for await (const part of entry.content()) parts.push(part)
assert(Buffer.concat(parts).equals(readFileSync(original)), 'the content differs')
console.log(`car-tools: ${blocks.size} blocks read, content ${content} comes out byte for byte`)
