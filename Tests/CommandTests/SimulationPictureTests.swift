// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Simulation
@testable import vfio_ferry

#if canImport(FoundationXML)
  import FoundationXML
#endif

struct SimulationPictureTests {
  private static let pictures: [(name: String, picture: SimulationPicture)] = [
    ("one pair", InventedMove.picture(pairs: 1)), ("eight pairs", InventedMove.picture(pairs: 8)),
    (
      "many faults",
      InventedMove.picture(
        pairs: 2,
        faults: (1...9).map {
          "fault \($0): the link between the hosts breaks while nobody expects it, at \($0 * 997) us"
        })
    ),
    ("no stop", InventedMove.picture(pairs: 1, phases: [])),
    (
      "a very short stop",
      InventedMove.picture(pairs: 1, phases: [SimulationPicture.Phase(name: "all", begin: 20_500, end: 20_501)])
    ),
    (
      "a stop to the end",
      InventedMove.picture(pairs: 1, phases: [SimulationPicture.Phase(name: "all", begin: 20_500, end: 40_000)])
    ),
  ]

  @Test("no two texts lie on each other, and none leaves the page", arguments: pictures.indices)
  func texts(number: Int) {
    let svg = SimulationSVG(Self.pictures[number].picture)
    let boxes = svg.drawing.textBoxes
    let outside = boxes.filter {
      $0.area.x < 0 || $0.area.right > svg.width || $0.area.y < 0 || $0.area.bottom > svg.height
    }
    #expect(outside.isEmpty, "\(Self.pictures[number].name)")
    let overlaps = boxes.enumerated().flatMap { index, first in
      boxes[(index + 1)...].filter { first.area.overlaps($0.area) }.map { "\(first.text) and \($0.text)" }
    }
    #expect(overlaps.isEmpty, "\(Self.pictures[number].name)")
  }

  @Test("the picture is well-formed", arguments: pictures.indices)
  func wellFormed(number: Int) {
    let parser = XMLParser(data: Data(SimulationSVG(Self.pictures[number].picture).document.utf8))
    #expect(parser.parse(), "\(String(describing: parser.parserError))")
  }

  @Test("it says for how long the machine stood still, and which wait was the longest")
  func words() {
    let texts = SimulationSVG(InventedMove.picture(pairs: 1)).drawing.textBoxes.map(\.text)
    #expect(texts.contains("stands still for 4500 us"))
    #expect(texts.contains("the longest: 5430 us"))
    #expect(texts.contains("1  vCPUs stop, 450 us"))
  }

  @Test("every activity that is drawn is in the legend, and no other")
  func legend() {
    let picture = InventedMove.picture(pairs: 1)
    let texts = Set(SimulationSVG(picture).drawing.textBoxes.map(\.text))
    let drawn = Set(
      picture.devices.flatMap { $0.lanes.source.segments + $0.lanes.destination.segments }.map(\.activity))
    for activity in DeviceLane.Activity.allCases { #expect(texts.contains(activity.words) == drawn.contains(activity)) }
    #expect(Set(DeviceLane.Activity.allCases.map(\.fill)).count == DeviceLane.Activity.allCases.count)
  }

  @Test("with SVG's environment variable the invented pictures are written, to be looked at")
  func write() throws {
    guard let folder = ProcessInfo.processInfo.environment["SVG"] else { return }
    for (name, picture) in Self.pictures {
      try Data(SimulationSVG(picture).document.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name).svg"))
    }
  }

  // MARK: The axis

  @Test("later moments never lie to the left of earlier ones, and the ends are at the ends")
  func order() {
    for standstill in [nil, 0..<10, 500..<700, 9_000..<10_000, 0..<10_000, 4_000..<4_001] as [Range<UInt64>?] {
      let scale = SimulationTimeScale(end: 10_000, standstill: standstill, left: 100, right: 900)
      let places = (0...10_000).map { scale.x(UInt64($0)) }
      #expect(zip(places, places.dropFirst()).allSatisfy { $0 <= $1 }, "\(String(describing: standstill))")
      #expect(places.first == 100 && places.last == 900, "\(String(describing: standstill))")
    }
  }

  @Test("a short stop is drawn large, a long one as it is")
  func magnification() {
    let short = SimulationTimeScale(end: 100_000, standstill: 50_000..<51_000, left: 0, right: 1000)
    #expect(short.x(51_000) - short.x(50_000) > 400 && short.magnification > 50)
    let long = SimulationTimeScale(end: 100_000, standstill: 10_000..<90_000, left: 0, right: 1000)
    #expect(long.magnification == 1 && long.x(50_000) == 500)
  }

  @Test("marks on the axis are round: 1, 2 or 5 times a power of ten apart")
  func ticks() {
    #expect(SimulationTimeScale.roundStep(3) == 5)
    #expect(SimulationTimeScale.roundStep(1) == 1)
    #expect(SimulationTimeScale.roundStep(501) == 1000)
    let scale = SimulationTimeScale(end: 10_000, standstill: nil, left: 0, right: 1000)
    #expect(scale.ticks(letterWidth: 7).map(\.label).prefix(3) == ["0 ms", "1 ms", "2 ms"])
  }

  // MARK: Lanes

  @Test("a destination's device is empty until it is filled, whatever states it passes")
  func empty() {
    let lanes = InventedMove.lanes(shift: 0)
    #expect(lanes.destination.segments.map(\.activity) == [.empty, .isFilled, .standsStill, .answers, .runs])
    #expect(lanes.source.segments.map(\.activity) == [.runs, .preCopies, .answers, .isRead, .standsStill])
  }

  @Test("a device's times: in P2P states on both hosts, standing still on both, its state on the way")
  func times() throws {
    let lanes = InventedMove.lanes(shift: 0)
    #expect(lanes.quietMicroseconds == 400 + 400)
    let standstill = try #require(lanes.standstill)
    #expect(standstill.begin == 21_000 && standstill.end == 24_300)
    #expect(lanes.wireMicroseconds == 23_800 - 21_000)
  }

  @Test("a device that went back stands still until the source runs again; one that never stopped has no such time")
  func wentBack() throws {
    let changes: [(time: UInt64, state: MigrationState)] = [(100, .preCopyP2P), (200, .stopCopy), (500, .runningP2P)]
    let source = DeviceLane(changes, side: .source, end: 900)
    let lanes = DeviceLanes(source: source, destination: DeviceLane([], side: .destination, end: 900))
    #expect(try #require(lanes.standstill).end == 500)
    #expect(lanes.wireMicroseconds == nil)
    let idle = DeviceLanes(
      source: DeviceLane([], side: .source, end: 900), destination: DeviceLane([], side: .destination, end: 900))
    #expect(idle.standstill == nil)
  }
}
