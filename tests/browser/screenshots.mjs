// The pictures in docs/screenshots.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pages } from './pages.mjs';
import { browser, cleanUp } from './world.mjs';

const desktop = { width: 720, height: 560 };
const phone = { width: 390, height: 760 };
const pictures = [
  ['consent-light', 'consent', { colorScheme: 'light', viewport: desktop }],
  ['consent-dark', 'consent', { colorScheme: 'dark', viewport: desktop }],
  ['consent-phone', 'consent-local', { colorScheme: 'light', viewport: phone }],
  ['error', 'error', { colorScheme: 'light', viewport: desktop }],
  ['form-post-without-script', 'form-post', { colorScheme: 'light', viewport: { width: 720, height: 240 } }],
];

mkdirSync(process.env.SCREENSHOTS, { recursive: true });
for (const [name, kind, options] of pictures) {
  const context = await browser.newContext({ javaScriptEnabled: false, ...options });
  const page = await context.newPage();
  await pages[kind](page);
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
  await context.close();
}
await cleanUp();
