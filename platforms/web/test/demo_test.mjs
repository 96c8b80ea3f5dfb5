// The demo as a person uses it, and a picture of it: demo_test.mjs PACKAGE MODELS RUNNEL TOOLS PICTURE.png [MODEL.rnl]
// MODEL: the language model, by default the tests' own, which says nothing sensible; MODELS holds typeseg.rnl and labels.txt.
import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { existsSync } from 'node:fs';
import { MODELS, finish, inPage, rest, test } from './harness.mjs';

const [picture, language = `${MODELS}/llama-f32.rnl`] = rest;
const hasTypeseg = existsSync(`${MODELS}/typeseg.rnl`);

await inPage(true, async (page, address, problems) => {
  await page.goto(address);
  await page.locator('#engine:has-text("threads")').waitFor();
  await test('a chosen file is opened and its model continues a text', async () => {
    await page.setInputFiles('#language-file', language);
    await page.locator('#run:enabled').waitFor({ timeout: 120000 });
    await page.fill('#prompt', 'The river rises in the mountains and');
    await page.fill('#tokens', '48');
    await page.click('#run');
    await page.locator('#speed:has-text("working memory")').waitFor({ timeout: 300000 });
    const text = await page.textContent('#answer');
    console.log(`      ${JSON.stringify(text)}`);
    console.log(`      ${await page.textContent('#language-status')}; ${await page.textContent('#speed')}`);
    assert.ok(text.length > 50);
    assert.match(await page.textContent('#speed'), /tokens a second, done/);
  });
  await test('an answer is stopped', async () => {
    await page.fill('#tokens', '4000');
    const before = await page.textContent('#answer');
    await page.click('#run');
    await page.locator('#speed:has-text("tokens a second")').waitFor();
    await page.waitForTimeout(300);
    await page.click('#stop');
    await page.locator('#speed:has-text("stopped")').waitFor({ timeout: 60000 });
    await page.evaluate((text) => (document.getElementById('answer').textContent = text), before);
  });
  await test('a file that is no model is refused in words', async () => {
    const status = await page.textContent('#typeseg-status');
    assert.equal(status, '');
    await page.fill('#typeseg-address', 'texts/mixed.txt');
    await page.click('#typeseg-fetch');
    await page.locator('#typeseg-status:not(:empty)').waitFor();
    await page.waitForFunction(() => !document.getElementById('typeseg-status').textContent.includes('%'));
    assert.match(await page.textContent('#typeseg-status'), /not a/i);
  });
  if (hasTypeseg)
    await test('a fetched model colours a text', async () => {
      await page.fill('#typeseg-address', 'models/typeseg.rnl');
      await page.click('#typeseg-fetch');
      await page.locator('#kinds:has-text("bytes in")').waitFor({ timeout: 120000 });
      const kinds = await page.textContent('#kinds');
      console.log(`      ${kinds}`);
      for (const kind of ['html', 'css', 'javascript', 'sql', 'python']) assert.match(kinds.toLowerCase(), new RegExp(kind));
      assert.equal(await page.textContent('#coloured'), await page.inputValue('#text'));
    });
  else console.log(`      ${basename(MODELS)} has no typeseg.rnl: no text is coloured`);
  if (picture) await page.screenshot({ path: picture, fullPage: true });
  await test('nothing went wrong in the page', () => assert.deepEqual(problems, []));
});
finish();
