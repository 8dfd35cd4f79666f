// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import FoundationXML
import LinuxIO
import Migration
import Testing

@testable import vfio_ferry

/// What `dirty` prints and draws of readings that are made up, and what it does not take.
struct DirtyCommandTests {
  private static let mega: UInt64 = 1 << 20
  private static let guest = [0..<16 * mega, 0x1_0000_0000..<0x1_0000_0000 + 8 * mega]

  /// Readings of half a second: a hot mebibyte, some written here and there, and a bit of high memory.
  private static func figures(_ readings: Int = 2) throws -> DirtyFigures {
    let scattered = stride(from: 4 * mega, to: 12 * mega, by: 131_072).map { $0..<$0 + 4096 * 3 }
    return try figures(
      guest, [2 * mega..<3 * mega, guest[1].lowerBound..<guest[1].lowerBound + 0x20000] + scattered, readings)
  }

  private static func figures(
    _ guest: [Range<UInt64>], _ written: [Range<UInt64>], _ readings: Int = 1
  ) throws -> DirtyFigures {
    var watch = try DirtyWatch(ranges: guest)
    var bitmap = DirtyBitmap(layout: watch.layout)
    for _ in 0..<readings {
      for range in written { try bitmap.mark(range) }
      try watch.take(&bitmap, microseconds: 500_000)
    }
    return watch.figures
  }

  private func pane(
    _ figures: DirtyFigures, columns: Int = 80, rows: Int = 24, colours: Bool = false, link: UInt64? = nil
  ) -> [String] {
    DirtyPane(
      figures: figures, devices: [], link: link, heading: "vfio0 of process 7, by the device's own log",
      terminal: Terminal(columns: columns, rows: rows), hasColours: colours
    ).lines
  }

  @Test("a terminal shows rates, a map with addresses, and what is hottest")
  func golden() throws {
    let expected = """
      vfio0 of process 7, by the device's own log
      now 3.7 MiB/s   mean 3.7 MiB/s   peak 3.7 MiB/s
      1.8 MiB of 24.0 MiB written to so far, in 1000.0 ms; sending it takes 1966.0 ms
      a link of 8.0 Mbit/s is OUTRUN (393 % of it): pre-copy can't catch up

      0x000000000 ................................@@@@@@@@@@@@@@@@................
      0x000400000 #.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.
      0x000800000 #.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.
      0x000c00000 ................................................................
      0x100000000 @@..............................................................
      0x100400000 ................................................................
      a letter is 64K: . none  :-=+*#%@ each twice as fast, up to 32 pages/s

      hottest
        0x200000+1M  512 pages/s, 53 % of all
        0x100000000+128K  64 pages/s, 6 % of all
      """
    #expect(pane(try Self.figures(), link: 1_000_000).joined(separator: "\n") == expected)
  }

  @Test(
    "no line is longer than the terminal is wide, and the picture is no higher, whatever the memory",
    arguments: [20, 40, 79, 80, 200], [10, 24, 60])
  func fits(columns: Int, rows: Int) throws {
    let many = (0..<300).map { UInt64($0) << 33..<(UInt64($0) << 33) + 1 << 31 }
    let memories: [[Range<UInt64>]] = [Self.guest, [0..<4096 * 5], many, [0..<1 << 40]]
    for guest in memories {
      let lines = pane(try Self.figures(guest, [guest[0].lowerBound..<4096 * 5]), columns: columns, rows: rows)
      #expect(lines.allSatisfy { $0.count < max(columns, 21) }, "\(lines)")
      #expect(lines.count < max(rows, 16), "\(lines.count)")
    }
  }

  @Test("colours change nothing but colours")
  func colours() throws {
    let figures = try Self.figures()
    let plain = pane(figures)
    let coloured = pane(figures, colours: true)
    #expect(plain != coloured)
    #expect(coloured.map { $0.replacing(/\u{1b}\[[0-9;]*m/, with: "") } == plain)
  }

  @Test("shades begin at twice the rate of the one below, and the hottest has the highest")
  func shades() {
    #expect([0, 1, 4, 5, 256, 512, 1024].map { DirtyHeat.shade($0, of: 1024) } == [0, 0, 0, 1, 6, 7, 8])
    #expect(DirtyHeat.shade(0, of: 0) == 0 && DirtyHeat.shade(.max, of: .max) == 8)
    #expect(DirtyHeat.letters.count == DirtyHeat.shades + 1 && Set(DirtyHeat.letters).count == DirtyHeat.letters.count)
    #expect(DirtyHeat.terminalColours.count == DirtyHeat.shades + 1)
    #expect(DirtyHeat.pictureColours.count == DirtyHeat.shades + 1)
  }

  @Test("what a rate means is said of the link that was named")
  func meaning() throws {
    let figures = try Self.figures()
    func words(_ link: UInt64?) -> String { DirtySentences(figures: figures, link: link).meaning }
    #expect(words(nil) == "a link of 31.4 Mbit/s or less is outrun by this (at the peak 31.4 Mbit/s)")
    #expect(words(1_000_000) == "a link of 8.0 Mbit/s is OUTRUN (393 % of it): pre-copy can't catch up")
    #expect(words(100_000_000) == "a link of 800.0 Mbit/s carries it: 3 % of it in the mean, 3 % at the peak")
    let nothing = DirtySentences(figures: try DirtyWatch(ranges: [0..<4096]).figures, link: 1)
    #expect(nothing.meaning == "no device has written anything: for them any link will do")
  }

  @Test("an object for each reading has units in its keys, and is one line")
  func json() throws {
    let device = DirtyReport.Device(name: "vfio0", tracker: .device, reason: "device; no iommu: x", pages: 352)
    let report = DirtyReport(figures: try Self.figures(), devices: [device], link: 12_500_000)
    #expect(
      report.json.text(pretty: false)
        == #"{"reading":2,"time_us":1000000,"interval_us":500000,"tracker":"device","dirty_pages":480,"#
        + #""dirty_bytes":1966080,"dirty_bytes_per_second":3932160,"mean_bytes_per_second":3932160,"#
        + #""peak_bytes_per_second":3932160,"written_bytes_so_far":1966080,"watched_bytes":25165824,"page_bytes":4096,"#
        + #""link_bytes_per_second":12500000,"link_verdict":"carried","devices":[{"name":"vfio0","tracker":"device","#
        + #""tracker_reason":"device; no iommu: x","dirty_pages":352}],"hottest":[{"start":"0x200000","#
        + #""length_bytes":1048576,"pages_per_second":512,"percent":53},{"start":"0x100000000","length_bytes":131072,"#
        + #""pages_per_second":64,"percent":6}]}"#)
    #expect(report.line == "1.000 s  480 pages  3.7 MiB/s  hottest 0x200000+1M  512 pages/s, 53 % of all")
    let other = DirtyReport.Device(name: "vfio1", tracker: .device, reason: "", pages: 128)
    let both = DirtyReport(figures: try Self.figures(), devices: [device, other], link: nil)
    #expect(both.line.contains("(vfio0 352 pages, vfio1 128 pages)"))
  }

  @Test("a picture is well-formed and within its size, with no reading, one, and more than it has columns")
  func picture() throws {
    for readings in [0, 1, 400] {
      for link: UInt64? in [nil, 1, 4_000_000, .max] {
        let document = DirtySVG(try Self.figures(readings), heading: "a & b <c>", link: link).document
        let parser = XMLParser(data: Data(document.utf8))
        #expect(parser.parse(), "\(readings): \(String(describing: parser.parserError))")
        #expect(document.utf8.count < 2_000_000)
      }
    }
  }

  @Test(
    "amounts are read with their units, and what is none is none",
    arguments: [
      ("4096", 4096), ("0x1000", 4096), ("64K", 65_536), ("0x10M", 16 << 20), ("2g", 2 << 30), ("1T", 1 << 40),
      ("", nil), ("K", nil), ("-1", nil), ("+1", nil), ("0x", nil), ("1P", nil), ("16777216T", nil), ("1.5G", nil),
    ] as [(String, UInt64?)])
  func bytes(text: String, bytes: UInt64?) {
    #expect(Quantity.bytes(text) == bytes)
  }

  @Test("ranges and link rates are read as the manual has them")
  func ranges() {
    #expect(Quantity.range("0x1000000+64M") == 0x100_0000..<0x500_0000)
    #expect(Quantity.range("4G+12G") == 4 << 30..<16 << 30)
    for text in ["", "0", "0+", "+4096", "1+4096", "0+100", "0+0", "0+4K+4K", "0xfffffffffffff000+4K"] {
      #expect(Quantity.range(text) == nil, "\(text)")
    }
    #expect(Quantity.linkRate("25G") == 3_125_000_000 && Quantity.linkRate("400Mbit/s") == 50_000_000)
    #expect(Quantity.linkRate("100 Gbit/s") == 12_500_000_000 && Quantity.linkRate("64") == 8)
    for text in ["", "G", "1", "0x10", "-5G", "25GB", "fast"] { #expect(Quantity.linkRate(text) == nil, "\(text)") }
  }

  @Test(
    "options that make no sense are misuse, and say what would",
    arguments: [
      (["--interval", "0"], "0.01"), (["--interval", "nan"], "0.01"), (["--count", "0"], "from 1 on"),
      (["--tracker", "everything"], "nothing to watch"), (["--tracker", "best"], "auto"), (["--link", "fast"], "25G"),
      (["--range", "1+2"], "0+2G"), (["--range", "0+2M", "--range", "1M+2M"], "overlap"),
      (["--turn-off", "--range", "0+2M"], "leave out"),
    ] as [([String], String)])
  func misuse(options: [String], word: String) {
    #expect {
      _ = try VFIOFerry.parseAsRoot(["dirty", "/dev/vfio/devices/vfio0"] + options)
    } throws: { error in
      VFIOFerry.exitCode(for: error) != .success && VFIOFerry.fullMessage(for: error).contains(word)
    }
  }

  @Test("without a range the error says where the numbers are")
  func noRange() throws {
    let options = try DirtyOptions.parse([])
    #expect {
      _ = try options.ranges()
    } throws: { error in
      let failure = error as? CommandFailure
      return failure?.status == .misuse && failure?.message.contains("info mtree") == true
        && failure?.message.contains("Cloud Hypervisor") == true && failure?.message.contains("\n") == false
    }
  }
}
