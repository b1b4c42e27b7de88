// As much of a page as the client looks at.
export function page(t) {
  const window = new EventTarget()
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" })
  const before = { add: globalThis.addEventListener, remove: globalThis.removeEventListener, document: globalThis.document }
  globalThis.addEventListener = window.addEventListener.bind(window)
  globalThis.document = document
  const now = Date.now
  const restore = () => {
    globalThis.addEventListener = before.add
    globalThis.document = before.document
    Date.now = now
  }
  t.after(restore)
  return {
    restore,
    document,
    /** An event of the page, after so many milliseconds in which nothing ran. */
    fire(name, slept = 0) {
      if (slept) Date.now = () => now() + Math.abs(slept)
      for (const target of [window, document]) target.dispatchEvent(new Event(name))
    },
  }
}
