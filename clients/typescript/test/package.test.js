// The package as it is published.
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { build } from "esbuild"

const run = promisify(execFile)
const root = new URL("..", import.meta.url).pathname
const most = 6000 // bytes of the core, minified and compressed

test(`the core has at most ${most} bytes`, async (t) => {
  const { outputFiles } = await build({
    stdin: { contents: `export { EventStream } from "./dist/index.js"`, resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
  })
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length
  t.diagnostic(`${size} bytes`)
  assert.ok(size <= most, `${size} bytes`)
})

test("packed, installed elsewhere, imported, and understood by tsc", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "eventstream-pack-"))
  t.after(() => rm(dir, { recursive: true }))
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", dir], { cwd: root })
  const [tarball] = await readdir(dir)
  await writeFile(join(dir, "package.json"), `{"type":"module","private":true}`)
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "./" + tarball], { cwd: dir })
  const installed = join(dir, "node_modules/eventstream-client")
  assert.deepEqual((await readdir(installed)).sort(), ["LICENSE", "README.md", "dist", "package.json"])
  const { dependencies } = JSON.parse(await readFile(join(installed, "package.json")))
  assert.equal(dependencies, undefined)

  await writeFile(join(dir, "use.mjs"), `import * as c from "eventstream-client"; console.log(Object.keys(c).sort().join())`)
  const { stdout } = await run(process.execPath, ["use.mjs"], { cwd: dir })
  assert.equal(stdout.trim(), "AuthError,ConnectError,EventStream,EventStreamError,LimitError,ProtocolError,RevokedError,TooSlowError,localStorageCursor")

  await assert.rejects(run(process.execPath, ["--input-type=module", "--eval", `import "eventstream-client/react"`], { cwd: dir }), /Cannot find package 'react'/) // which it is up to the user to have

  const tsc = (options) => run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "--strict", "--noEmit", "--types", "", ...options], { cwd: dir })
  await writeFile(
    join(dir, "good.ts"),
    `import { AuthError, EventStream, localStorageCursor, type Gap } from "eventstream-client"
     interface Purchase { amount: number }
     const stream = new EventStream<Purchase>("wss://events.example.com", {
       token: async ({ reason, signal }) => (await fetch("/token?" + reason, { signal })).text(),
       cursor: localStorageCursor("k"), from: { since: new Date(0) }, ack: "manual", WebSocket, fetch,
     })
     const off: () => void = stream.on("event", (e) => { const n: number = e.data.amount; stream.ack(e); return n })
     stream.on("gap", (g: Gap) => g.missing?.[0]?.partition)
     stream.on("close", ({ error }) => error instanceof AuthError && error.code)
     for await (const { id, ts, data } of stream) console.log(id.length, ts.getTime(), data.amount)
     off()
     await stream.close()
     export {}`,
  )
  for (const resolution of [["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"], ["--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022", "--lib", "es2022,dom"]])
    await tsc([...resolution, "good.ts"])
  await writeFile(join(dir, "bad.ts"), `import { EventStream } from "eventstream-client"; new EventStream("x", { transport: "pigeon" })`)
  await assert.rejects(tsc(["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "bad.ts"]), (e) => /pigeon/.test(e.stdout))
})
