// SPDX-License-Identifier: Apache-2.0

/// A picture in SVG, written shape by shape. Coordinates and sizes are pixels, from the top left.
struct SVGDrawing {
  /// A rectangle on the page.
  struct Area: Hashable {
    var x: Int
    var y: Int
    var width: Int
    var height: Int

    var right: Int { x + width }
    var bottom: Int { y + height }
    var middle: Int { y + height / 2 }
  }

  /// How a text looks.
  struct TextStyle {
    var size = 11
    var fill = "#1f2933"
    var isBold = false
  }

  /// A place that text takes up, as far as its letters' count tells.
  struct TextBox: Hashable {
    let text: String
    let area: Area
  }

  private var body = ""
  /// Where there is text, in the order of drawing.
  private(set) var textBoxes: [TextBox] = []

  /// What text is set in: letters of one width, so that a text's width is known here.
  private static let font = "DejaVu Sans Mono, Liberation Mono, Menlo, Consolas, monospace"

  /// The width of a text. Letters are 0.602 of the size wide.
  static func width(of text: String, size: Int) -> Int { (text.count * size * 602 + 999) / 1000 }

  /// How many letters fit into a width.
  static func letters(in width: Int, size: Int) -> Int { max(1, width * 1000 / (size * 602)) }

  mutating func rectangle(
    _ area: Area, fill: String, stroke: String = "none", strokeWidth: Int = 1, radius: Int = 0, title: String? = nil
  ) {
    body +=
      "<rect x=\"\(area.x)\" y=\"\(area.y)\" width=\"\(area.width)\" height=\"\(area.height)\" rx=\"\(radius)\" "
      + "fill=\"\(fill)\" stroke=\"\(stroke)\" stroke-width=\"\(strokeWidth)\"" + Self.close("rect", title: title)
  }

  /// - Parameter y: the line that the letters stand on.
  mutating func text(_ text: String, x: Int, y: Int, style: TextStyle = TextStyle()) {
    if text.isEmpty { return }
    body +=
      "<text x=\"\(x)\" y=\"\(y)\" font-size=\"\(style.size)\" fill=\"\(style.fill)\""
      + (style.isBold ? " font-weight=\"bold\"" : "") + ">\(Self.escaped(text))</text>\n"
    textBoxes.append(
      TextBox(
        text: text,
        area: Area(
          x: x, y: y - style.size * 8 / 10, width: Self.width(of: text, size: style.size), height: style.size)))
  }

  /// - Parameters:
  ///   - data: a path's `d`.
  ///   - attributes: further attributes, in SVG.
  mutating func path(_ data: String, stroke: String, width: Int, attributes: String = "", title: String? = nil) {
    body +=
      "<path d=\"\(data)\" fill=\"none\" stroke=\"\(stroke)\" stroke-width=\"\(width)\""
      + (attributes.isEmpty ? "" : " " + attributes) + Self.close("path", title: title)
  }

  private static func close(_ element: String, title: String?) -> String {
    title.map { "><title>\(escaped($0))</title></\(element)>\n" } ?? "/>\n"
  }

  /// The whole picture.
  /// - Parameter definitions: what shapes refer to, in SVG.
  func document(width: Int, height: Int, title: String, definitions: String) -> String {
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      + "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\" "
      + "viewBox=\"0 0 \(width) \(height)\" font-family=\"\(Self.font)\">\n<title>\(Self.escaped(title))</title>\n"
      + "<defs>\n\(definitions)</defs>\n"
      + "<rect x=\"0\" y=\"0\" width=\"\(width)\" height=\"\(height)\" fill=\"#ffffff\"/>\n\(body)</svg>\n"
  }

  /// Text for XML: what marks something up is spelled out, and what XML forbids is replaced.
  static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\u{fffe}", "\u{ffff}": result += "\u{fffd}"
      default:
        if scalar.value < 0x20 { result += "\u{fffd}" } else { result.unicodeScalars.append(scalar) }
      }
    }
    return result
  }
}
