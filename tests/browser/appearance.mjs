// Readable on a phone, in the dark, and by programs that read aloud.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { pages } from './pages.mjs';
import { visit } from './world.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

for (const [name, open] of Object.entries(pages)) {
  for (const colorScheme of ['light', 'dark']) {
    const options = { colorScheme, viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
    test(`${name} is readable on a phone, ${colorScheme}`, () =>
      visit(options, async (page) => {
        // Axe needs scripts; this is what the others would show without.
        await page.route('**/authorize?*response_mode=form_post*', async (route) => {
          const response = await route.fetch();
          const body = (await response.text()).replace(/<script>.*?<\/script>/s, '').replace(/<\/?noscript>/g, '');
          await route.fulfill({ response, body });
        });
        await open(page);
        // With its style sheet, which one example serves apart.
        await page.waitForLoadState();
        const { widest, visible, small } = await page.evaluate(() => {
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const small = [];
          while (texts.nextNode()) {
            const { textContent, parentElement } = texts.currentNode;
            const isShown = textContent.trim() && parentElement.checkVisibility();
            if (isShown && parseFloat(getComputedStyle(parentElement).fontSize) < 16) small.push(textContent);
          }
          for (const input of document.querySelectorAll('input:not([type=hidden])')) {
            if (parseFloat(getComputedStyle(input).fontSize) < 16) small.push(input.name);
          }
          const { scrollWidth } = document.documentElement;
          return { widest: scrollWidth, visible: innerWidth, small };
        });
        assert.deepEqual({ widest, visible }, { widest: 390, visible: 390 }, 'nothing to scroll sideways');
        assert.deepEqual(small, [], 'no text under 16 px');

        // Contrast, labels, landmarks, language, title, headings.
        await page.evaluate(axe);
        const { violations, passes } = await page.evaluate(() =>
          globalThis.axe.run({ resultTypes: ['violations', 'passes'] }),
        );
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
        assert.deepEqual(found, []);
        const passed = passes.map(({ id }) => id);
        for (const rule of [
          'color-contrast',
          'document-title',
          'html-has-lang',
          'landmark-one-main',
          'page-has-heading-one',
        ]) {
          assert.ok(passed.includes(rule), `${rule} was looked at`);
        }
        const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
        const [red] = background.match(/\d+/g).map(Number);
        assert.ok(colorScheme === 'dark' ? red < 64 : red > 192, `${background} is ${colorScheme}`);
      }));
  }
}
