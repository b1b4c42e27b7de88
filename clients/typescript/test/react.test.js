// The hooks: in StrictMode, in a real browser; and on a server, where nothing connects.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { build } from "esbuild"
import { createElement as h } from "react"
import { renderToString } from "react-dom/server"
import { EventStreamProvider, useConnectionState, useEvents, useEventStream, useLatest } from "../dist/react.js"
import { launch, skip } from "./browser.js"
import { gateway } from "./setup.js"
import { until } from "./server.js"

const app = `
  import { createElement as h, StrictMode, useState } from "react"
  import { createRoot } from "react-dom/client"
  import { EventStreamProvider, useConnectionState, useEvents, useEventStream, useLatest } from "./dist/react.js"

  globalThis.handled = []
  function Shop() {
    const [factor, setFactor] = useState(1)
    const latest = useLatest((e) => (e.data.i % 2 ? undefined : e.id), { limit: 2 })
    const state = useConnectionState()
    const stream = useEventStream()
    useEvents((e) => void handled.push(e.data.i * factor))
    globalThis.setFactor = setFactor
    return h("p", null, [state, stream?.state, latest.join()].join(" | "))
  }
  function App({ url, shown }) {
    return h(EventStreamProvider, { url, options: { subscriberId: "user_1" } }, shown && h(Shop), shown && h(Shop))
  }
  const root = createRoot(document.getElementById("root"))
  globalThis.render = (url, shown) => root.render(h(StrictMode, null, url && h(App, { url, shown })))
`

let chrome
before(async () => {
  if (skip) return
  const { outputFiles } = await build({
    stdin: { contents: app, resolveDir: new URL("..", import.meta.url).pathname },
    bundle: true,
    format: "esm",
    define: { "process.env.NODE_ENV": `"development"` }, // StrictMode mounts twice only then
    write: false,
  })
  chrome = await launch({ "app.js": outputFiles[0].text })
})
after(() => chrome?.close())

test("one stream for all components, in StrictMode, closed some time after the last", { skip }, async (t) => {
  const g = await gateway((a) => a.accept())
  const { page } = await chrome.open(t)
  const text = () => page.locator("#root").innerText()
  const render = (...args) => page.evaluate((args) => globalThis.render(...args), args)
  await page.addScriptTag({ url: "/app.js", type: "module" })
  await render(g.url, true)
  await until(async () => (await text()).includes("live | live"))
  assert.equal(g.attempts.length, 1)

  g.attempts[0].events(["0-1", "0-2", "0-3", "0-4", "0-5"]) // data {i: 0} to {i: 4}
  await until(async () => (await text()).split("\n").every((line) => line === "" || line === "live | live | 0-3,0-5"))
  assert.deepEqual(await page.evaluate("handled"), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]) // two components

  await page.evaluate("setFactor(10)") // of the second component: its newest handler is called, and nothing connects anew
  g.attempts[0].events(["0-6", "0-7"])
  await until(async () => (await page.evaluate("handled.length")) === 14)
  assert.deepEqual(await page.evaluate("handled.slice(10)"), [0, 0, 1, 10])

  await render(g.url, false) // events wait
  g.attempts[0].events(["0-8"])
  await render(g.url, true)
  await until(async () => (await page.evaluate("handled.length")) === 16)
  assert.equal(g.attempts.length, 1)

  await render(null)
  await until(() => g.attempts[0].over)
  assert.equal(g.attempts[0].code, 1000)

  await render(g.url, true)
  await until(async () => g.attempts.length === 2 && (await text()).includes("live | live"))
})

test("another url is another stream, and the one before is closed", { skip }, async (t) => {
  const [one, two] = [await gateway((a) => a.accept()), await gateway((a) => a.accept())]
  const { page } = await chrome.open(t)
  await page.addScriptTag({ url: "/app.js", type: "module" })
  await page.evaluate((url) => globalThis.render(url, true), one.url)
  await until(() => one.attempts.length)
  await page.evaluate((url) => globalThis.render(url, true), two.url)
  await until(() => two.attempts.length && one.attempts[0].over)
  assert.deepEqual([one.attempts.length, two.attempts.length], [1, 1])
})

test("on a server the state is idle, there is no stream, and nothing connects", async () => {
  function Part() {
    useEvents(() => assert.fail())
    return h("p", null, `${useConnectionState()} ${useEventStream()} ${useLatest().length}`)
  }
  const g = await gateway((a) => a.accept())
  assert.equal(renderToString(h(EventStreamProvider, { url: g.url, options: { subscriberId: "a" } }, h(Part))), "<p>idle null 0</p>")
  await new Promise((r) => setTimeout(r, 50))
  assert.equal(g.attempts.length, 0)
  assert.throws(() => renderToString(h(Part)), /no <EventStreamProvider>/)
})
