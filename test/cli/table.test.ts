import { describe, expect, it } from 'vitest'

import { renderTable, wrapText } from '../../lib/cli/table.js'

describe('renderTable', () => {
  it('puts numbers to the right, texts to the left, and no spaces at line ends', () => {
    const columns = [{ title: 'NAME' }, { title: 'COUNT', align: 'right' }, { title: 'NOTE' }] as const
    expect(renderTable(columns, [['a', '1,000', 'x'], ['longer', '7', ''], ['b']])).toBe(
      ['NAME    COUNT  NOTE', 'a       1,000  x', 'longer      7', 'b', ''].join('\n'),
    )
  })

  it('counts characters, not bytes, and lets no cell move the cursor', () => {
    expect(renderTable([{ title: 'A' }, { title: 'B' }], [['😀é', 'x\u001b[1m']])).toBe('A   B\n😀é  x?[1m\n')
  })
})

describe('wrapText', () => {
  it('breaks between words and indents each line', () => {
    expect(wrapText('one two  three\nfour', 11, '  ')).toBe('  one two\n  three\n  four\n')
  })

  it('gives a word that is too long a line of its own', () => {
    expect(wrapText('a incomprehensibilities b', 10)).toBe('a\nincomprehensibilities\nb\n')
  })
})
