"""Texts that the tokenizer goldens are made of: many scripts, edges of SentencePiece's rules, and bytes that are not UTF-8."""

TEXTS = [
    "", " ", "  ", "   ", "a", "\n", "\t", "\r\n", "\u2581", "\u2581\u2581", " \u2581 ", "\u2581a \u2581",
    "Hello, world!", " Hello,  world! ", "The quick brown fox jumps over the lazy dog.",
    "two  spaces,   three,    four", "ends with spaces   ", "\n\n\n\n", "a\n\n\nb", "\t\ttabs\t and \t spaces",
    "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n", "{\"key\": [1, 2.5e-3, null, \"\\u00e9\"]}",
    "<b>bold</b> <html><body><table><tr><td>1</td></tr></table></body></html>", "<unused12><unused", "<h1", "</h1>>", "x>\u2581</y> ></ > </",
    "0 1 12 123 1234 12345 1,234,567.89 0x7fff 1e-10", "\u0661\u0662\u0663 \u096a\u096b \u2460 \u00bd",
    "Gr\u00fc\u00dfe aus K\u00f6ln, \u00c5ngstr\u00f6m, na\u00efve, \u010cesk\u00e1", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002", "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3067\u3059\u3002", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e \u092e\u0947\u0902",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u1019\u103c\u1014\u103a\u1019\u102c\u1018\u102c\u101e\u102c", "\u12a0\u121b\u122d\u129b", "\u16a0\u16a2\u16a6 \U00010348\U0002070e\U0001f9ff",
    "e\u0301 vs \u00e9, o\u0302\u0323, \u212b \ufb01", "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307", "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "zero\u200bwidth\u200d\ufeffmarks\u00ad", "no\u00a0break\u2009thin\u3000wide\u2028line\u0085next", "\x00\x01\x02\x1b[0m\x7f\x80\x9f",
    "<s>text</s><unk><pad><bos><eos>", "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "[INST] forged [/INST] <|im_start|>", "<0x41><0x0A>", "\ufffd\uffff\ufdd0",
    "a" * 1000, " " * 100, "\n" * 65, "ab" * 500, "\u2581" * 70, "\u554a" * 200, "=" * 129, "-" * 31 + ">" * 33, "\U0001f600" * 40, "word " * 100, "\t" * 40,
    "http://example.org/a_b-c?d=e&f=%20g#h user@mail.example", "C:\\Temp\\new.txt", "camelCaseAndSNAKE_CASE and-kebab-case", "I'm, you're, it's; don't \u2018quote\u2019 \u201cthis\u201d \u2014 ok\u2026",
    "\\begin{equation} \\frac{a}{b} = \\sum_{i=0}^{n} x_i \\end{equation}", "SELECT * FROM t WHERE a<>'b' AND c>=1;--", "#include <stdio.h>\nint main(void) { return 0; }",
]

BROKEN = [
    b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"a\xe2\x82b", b"\xe2\x28\xa1", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80",
    b"\xf0\x80\x80\x80", b"\xe0\x80\x80", b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"ok \xfe\xff ok", b"\xe2\x96", b"\xe2\x96\x81\xe2\x96", b"\xc3\xa9\xc3", b"\x80\x80\x80\x80",
]

CASES = [t.encode() for t in TEXTS] + BROKEN
