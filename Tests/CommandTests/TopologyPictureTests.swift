// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing
import Topology
import TopologyFixtures

@testable import vfio_ferry

#if canImport(FoundationXML)
  import FoundationXML
#endif

struct TopologyPictureTests {
  private static let peers = [
    "14:00.1", "13:00.0", "24:00.1", "23:00.0", "25:00.0", "83:00.0", "84:00.1", "95:00.0",
  ]

  /// A view of each described host, made once: on the large one with devices named.
  private static let views = Result {
    try Dictionary(uniqueKeysWithValues: FixtureHost.Name.allCases.map { ($0, try makeView($0)) })
  }

  private static func makeView(_ name: FixtureHost.Name) throws -> TopologyView {
    let host = try FixtureHost(name)
    let inventory = Inventory(root: host.root)
    let tree = PCIScanner(root: host.root).tree()
    let devices: [FixtureHost.Name: [String]] = [.hgx: peers, .server: ["16:00.2", "17:00.0"]]
    let records = try devices[name, default: []].map { try inventory.device(DeviceAccess.name($0)) }
    return TopologyView(
      tree: tree, records: records, reachability: tree.reachability(of: records.map { $0.address(in: tree) }),
      onVFIO: Set(inventory.devices().map { "\($0.name)" }), all: false)
  }

  private func view(_ name: FixtureHost.Name) throws -> TopologyView {
    try #require(try Self.views.get()[name])
  }

  // MARK: SVG

  /// Takes note of what an XML parser comes across.
  private final class Reader: NSObject, XMLParserDelegate {
    var texts: [String] = []
    var curves = 0
    var bothEnds = 0
    private var text: String?

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
      attributes: [String: String]
    ) {
      if name == "text" { text = "" }
      if attributes["d"]?.contains("C") == true {
        curves += 1
        if attributes["marker-start"] != nil { bothEnds += 1 }
      }
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) { text?.append(string) }

    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) {
      if name == "text", let text { texts.append(text) }
      if name == "text" { text = nil }
    }
  }

  private func read(_ document: String) throws -> Reader {
    let reader = Reader()
    let parser = XMLParser(data: Data(document.utf8))
    parser.delegate = reader
    try #require(parser.parse(), "\(String(describing: parser.parserError))")
    return reader
  }

  @Test("the picture is well-formed, and has every named device and a curve for each pair that can talk")
  func svg() throws {
    let view = try view(.hgx)
    let reader = try read(TopologySVG(view).document)
    for record in view.records { #expect(reader.texts.contains("\(record.name)")) }
    let linked = view.pairs.filter { view.reachability.reaches($0.from, $0.to) }
    #expect(linked.count > 0)
    #expect(reader.curves + reader.bothEnds == linked.count)
  }

  @Test("no two texts lie on each other, and none leaves the page", arguments: FixtureHost.Name.allCases)
  func texts(name: FixtureHost.Name) throws {
    let picture = TopologySVG(try view(name))
    let boxes = picture.drawing.textBoxes
    let outside = boxes.filter { $0.area.right > picture.width || $0.area.bottom > picture.height }
    #expect(outside.isEmpty)
    let overlaps = boxes.enumerated().flatMap { index, first in
      boxes[(index + 1)...].filter { first.area.overlaps($0.area) }.map { "\(first.text) and \($0.text)" }
    }
    #expect(overlaps.isEmpty)
  }

  @Test("no two functions' boxes lie on each other", arguments: FixtureHost.Name.allCases)
  func boxes(name: FixtureHost.Name) throws {
    let layout = TopologyLayout(try view(name), top: 0)
    let areas = layout.boxes.map(\.area) + layout.bridges.map(\.area) + layout.groups.map(\.area)
    let overlaps = areas.enumerated().flatMap { index, first in areas[(index + 1)...].filter { first.overlaps($0) } }
    #expect(overlaps.isEmpty)
  }

  @Test("a named device that is no PCI function is drawn beside the tree, with links that nobody knows")
  func outside() throws {
    var view = try view(.server)
    var records = view.records
    records[1].name = .mediated("76666572-7279-4d54-8959-000000000001")
    view = TopologyView(
      tree: view.tree, records: records, reachability: .assumed(count: 2), onVFIO: view.onVFIO, all: false)
    let reader = try read(TopologySVG(view).document)
    #expect(reader.texts.contains("Not in the PCI tree"))
    #expect(reader.texts.contains("76666572-7279-4d54-8959-000000000001"))
    #expect(reader.curves == 1 && reader.bothEnds == 1)
  }

  @Test("what marks something up in XML is spelled out, and what XML forbids is replaced")
  func escaping() throws {
    var drawing = SVGDrawing()
    drawing.text("a<b>&\"c\u{1}", x: 1, y: 20)
    let reader = try read(drawing.document(width: 10, height: 10, title: "<t>", definitions: ""))
    #expect(reader.texts == ["a<b>&\"c\u{fffd}"])
  }

  @Test("-o writes a file that others may read, and nothing to standard output")
  func file() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("topology-\(UUID().uuidString).svg").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try TopologyBench.small().output(["--svg", "-o", path]).isEmpty)
    #expect(try String(contentsOfFile: path, encoding: .utf8).hasSuffix("</svg>\n"))
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect((mode ?? 0) & 0o044 != 0)
  }

  // MARK: Graphviz

  @Test(
    "the graph's statements are whole: strings closed, brackets and braces balanced",
    arguments: FixtureHost.Name.allCases)
  func dotGrammar(name: FixtureHost.Name) throws {
    let lines = TopologyDOT(view: try view(name)).lines
    #expect(lines.first == "digraph topology {" && lines.last == "}")
    var braces = 0
    for line in lines {
      var isQuoted = false
      var isEscaped = false
      var brackets = 0
      for character in line {
        if isEscaped {
          isEscaped = false
        } else if isQuoted {
          if character == "\\" { isEscaped = true }
          if character == "\"" { isQuoted = false }
        } else {
          switch character {
          case "\"": isQuoted = true
          case "[": brackets += 1
          case "]": brackets -= 1
          case "{": braces += 1
          case "}": braces -= 1
          default: break
          }
        }
      }
      #expect(!isQuoted && brackets == 0 && braces >= 0, "\(line)")
      #expect(line.hasSuffix(";") || line.hasSuffix("{") || line.hasSuffix("}"), "\(line)")
    }
    #expect(braces == 0)
  }

  @Test("the graph's edges between named devices have the colour of their path")
  func dotPairs() throws {
    let text = try TopologyBench.small().output(["--dot", "04:00.1", "03:00.0", "05:00.0"])
    let edges = text.split(separator: "\n").filter { $0.contains("constraint=false") }
    #expect(edges.count == 3)
    #expect(
      edges.contains {
        $0.contains(#""0000:04:00.1" -> "0000:03:00.0""#) && $0.contains(PathLook.direct.colour)
      })
    #expect(edges.filter { $0.contains(PathLook.redirected.colour) }.count == 2)
  }

  @Test("a quote or a backslash in a label ends no string")
  func dotQuoting() {
    #expect(TopologyDOT.quoted("a\"b\\c\nd") == #""a\"b\\c\nd""#)
    // With an accent on them they are other characters, but the same scalars.
    for mark in ["\"", "\\"] {
      let quoted = TopologyDOT.quoted("a\(mark)\u{301}];b")
      #expect(Array(quoted.unicodeScalars) == Array("\"a\\\(mark)\u{301}];b\"".unicodeScalars))
    }
  }
}
