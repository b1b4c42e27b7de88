// examples/web, in a real browser, with a real gateway.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { after, before, test } from "node:test"
import { launch, skip as noBrowser } from "./browser.js"
import { range, skip as noProgram, startDev } from "./dev.js"
import { until } from "./server.js"

const skip = noBrowser || noProgram
let dev, chrome, site
before(async () => {
  if (skip) return
  ;[dev, chrome] = await Promise.all([startDev(), launch()])
})
after(async () => {
  site?.kill()
  await chrome?.close()
  await dev?.end()
})

test("examples/web shows purchases, also after the gateway was away, and after a reload", { skip }, async (t) => {
  const script = new URL("../../../examples/web/server.mjs", import.meta.url).pathname
  site = spawn(process.execPath, [script, dev.url.replace("ws:", "http:")], { env: { ...process.env, PORT: "0" }, stdio: ["ignore", "pipe", "inherit"] })
  const [line] = await once(site.stdout, "data")
  await dev.filter("shopper")
  const { page } = await chrome.open(t)
  await page.goto(String(line).trim() + "/?user=shopper")
  const state = () => page.locator("#state").innerText()
  const amounts = async () => (await page.locator("#purchases td:nth-child(2)").allInnerTexts()).map(Number).sort((a, b) => a - b)
  await until(async () => (await state()) === "live")
  await dev.produce(range(1, 11))
  await until(async () => (await amounts()).length === 10)
  await dev.stop("SIGKILL")
  await until(async () => (await state()).startsWith("waiting"))
  await dev.start()
  await dev.filter("shopper")
  await dev.produce(range(11, 21))
  await until(async () => (await amounts()).length === 20)
  assert.deepEqual(await amounts(), range(1, 21))
  await page.reload()
  await until(async () => (await state()) === "live")
  await dev.produce(range(21, 26))
  await until(async () => (await amounts()).length >= 5)
  assert.deepEqual(await amounts(), range(21, 26))
})
