/** Plain text tables: no lines, no colours, numbers to the right. Pure functions. */
import { printable } from './format.js'

/** A column's heading and side. */
export interface Column {
  readonly title: string
  /** Default `left`; numbers go `right`. */
  readonly align?: 'left' | 'right'
}

const GAP = '  '

/** The width of a text in characters, counting code points. */
function widthOf(text: string): number {
  return [...text].length
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)))
  return align === 'right' ? space + text : text + space
}

/**
 * A table with a heading, one line a row, ending with a newline. Cells are made safe for a terminal; a row may have fewer
 * cells than there are columns.
 */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map((column) => column.title), ...rows].map((cells) => cells.map(printable))
  const widths = columns.map((_, column) => Math.max(...lines.map((cells) => widthOf(cells[column] ?? ''))))
  const render = (cells: readonly string[]): string =>
    columns
      .map((column, place) => pad(cells[place] ?? '', widths[place] ?? 0, column.align ?? 'left'))
      .join(GAP)
      .trimEnd()
  return lines.map((cells) => `${render(cells)}\n`).join('')
}

/** Words broken into lines of at most `width` characters, each line indented. A longer word gets a line of its own. */
export function wrapText(text: string, width: number, indent = ''): string {
  const lines: string[] = []
  let line = indent
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const isEmpty = line === indent
    if (!isEmpty && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line)
      line = indent + word
    } else {
      line = isEmpty ? line + word : `${line} ${word}`
    }
  }
  lines.push(line)
  return lines.map((each) => `${each}\n`).join('')
}
