// Chromium, and a site of its own origin for its pages.
import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { chromium } from "playwright-core"

const program = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync)
export const skip = program ? false : "there is no Chromium here; CHROMIUM may name one"

const dist = new URL("../dist/", import.meta.url)

/** Starts it. Pages find the client's modules, and scripts that are passed by name. */
export async function launch(scripts = {}) {
  const site = createServer(async (req, res) => {
    const name = /^\/(\w+\.js)$/.exec(req.url)?.[1]
    if (!name) return res.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>a page</title><div id=root></div>")
    res.writeHead(200, { "Content-Type": "text/javascript" }).end(scripts[name] ?? (await readFile(new URL(name, dist))))
  })
  await new Promise((r) => site.listen(0, "127.0.0.1", r))
  const origin = `http://127.0.0.1:${site.address().port}`
  const browser = await chromium.launch({
    executablePath: program,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    timeout: 60_000,
  })
  return {
    origin,
    /** Opens a page, with a profile of its own, that is closed after the test. */
    async open(t) {
      const context = await browser.newContext()
      t.after(() => context.close())
      const page = await context.newPage()
      await page.goto(origin)
      return { page, context }
    },
    async close() {
      await browser.close()
      site.closeAllConnections()
      site.close()
    },
  }
}
