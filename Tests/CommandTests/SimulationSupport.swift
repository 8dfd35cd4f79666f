// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation
@testable import vfio_ferry

/// No two texts of a drawing lie on each other, and none leaves its page.
func expectTextsApart(_ drawing: SVGDrawing, width: Int, height: Int, _ title: String) {
  let boxes = drawing.textBoxes
  #expect(
    boxes.allSatisfy {
      $0.area.x >= 0 && $0.area.right <= width && $0.area.y >= 0 && $0.area.bottom <= height
    }, "\(title)")
  let overlaps = boxes.enumerated().flatMap { index, first in
    boxes[(index + 1)...].filter { first.area.overlaps($0.area) }.map { "\(first.text) and \($0.text)" }
  }
  #expect(overlaps.isEmpty, "\(title)")
}

/// Invented moves, for what is drawn and printed of them.
enum InventedMove {
  static func time(_ microseconds: UInt64) -> MonotonicTime { MonotonicTime(microseconds: microseconds) }

  /// A device that is read ahead, stops at 21 ms and runs on the other host from 25 ms on.
  static func lanes(shift: UInt64) -> DeviceLanes {
    let source: [(UInt64, MigrationState)] = [
      (4_300, .preCopy), (20_600 + shift, .preCopyP2P), (21_000 + shift, .stopCopy), (26_000, .stop),
    ]
    let destination: [(UInt64, MigrationState)] = [
      (300, .runningP2P), (600, .stop), (900, .resuming), (23_800 + shift, .stop), (24_300, .runningP2P),
      (24_700 + shift, .running),
    ]
    return DeviceLanes(
      source: DeviceLane(source.map { (time: $0.0, state: $0.1) }, side: .source, end: 40_000),
      destination: DeviceLane(destination.map { (time: $0.0, state: $0.1) }, side: .destination, end: 40_000))
  }

  /// A picture of so many pairs of a NIC and a GPU.
  static func picture(pairs: Int, faults: [String] = [], phases: [SimulationPicture.Phase]? = nil) -> SimulationPicture
  {
    let devices = (0..<2 * pairs).map { number in
      SimulationPicture.Device(
        name: "0000:\(String((number < pairs ? 0x17 : 0x60) + number % pairs, radix: 16)):00.0",
        kind: number < pairs ? "NIC" : "GPU", lanes: lanes(shift: UInt64(number) * 20))
    }
    let names = [
      "vCPUs stop", "devices into a P2P state", "devices stop", "the last reading of dirty pages", "the rest is sent",
      "devices check what they were given", "the source lets go", "devices answer each other", "devices run",
      "vCPUs start",
    ]
    let invented = names.enumerated().map { index, name in
      SimulationPicture.Phase(name: name, begin: 20_500 + UInt64(index) * 450, end: 20_950 + UInt64(index) * 450)
    }
    var answers = (0..<2_000).map { number in
      SimulationPicture.Answer(time: UInt64(number) * 20, waited: 40 + UInt64(number * 7919 % 60))
    }
    answers.removeAll { (20_500...25_200).contains($0.time) }
    answers.append(SimulationPicture.Answer(time: 25_900, waited: 5_430))
    return SimulationPicture(
      scenario: "hgx, seed 1", ending: "Moved: the machine runs on the destination.",
      experience: peers.connectionWords, faults: faults, end: 40_000,
      devices: devices, phases: phases ?? invented,
      stays: [
        SimulationPicture.Stay(place: .runs(.source), begin: 0, end: 20_500),
        SimulationPicture.Stay(place: .stopped, begin: 20_500, end: 25_000),
        SimulationPicture.Stay(place: .runs(.destination), begin: 25_000, end: 40_000),
      ],
      rounds: [
        SimulationPicture.Round(pages: 2048, begin: 4_000, end: 12_000),
        SimulationPicture.Round(pages: 310, begin: 12_000, end: 16_000),
        SimulationPicture.Round(pages: 41, begin: 16_000, end: 20_500),
        SimulationPicture.Round(pages: 12, begin: 21_500, end: 23_000),
      ], peer: 1, answers: answers)
  }

  static let peers = PeerSummary(
    connections: 64, broken: 0, answered: 9_590, wanted: 9_600, wrong: 0, meanRoundTrip: 71, longestRoundTrip: 5_430,
    longestSilence: 6_100, packets: 40_000, retransmitted: 31)

  static let memory = MemorySummary(pages: 2048, rounds: [2048, 310, 41, 12], bytes: 9_871_360)

  static let phases = [
    MovePhase(name: "vCPUs stop", begin: time(20_500), end: time(20_600)),
    MovePhase(name: "devices into P2P", begin: time(20_600), end: time(21_000)),
  ]
}

extension SVGDrawing.Area {
  func overlaps(_ other: SVGDrawing.Area) -> Bool {
    x < other.right && other.x < right && y < other.bottom && other.y < bottom
  }
}
