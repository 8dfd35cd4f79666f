// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology
internal import VFIO

/// Trackers of devices, turned on for as long as somebody looks, and off again whatever happens.
final class DirtyTracking {
  /// The devices with what tracks them, and what each has written between the last two readings.
  private(set) var reports: [DirtyReport.Device] = []
  private let map: MappedMemory
  private var trackers: [(tracker: any DirtyTracker, isOn: Bool)] = []

  /// Chooses a tracker for each device; nothing is turned on.
  init(_ devices: [OpenDevice], _ wish: TrackerWish, _ map: MappedMemory) throws(CommandFailure) {
    self.map = map
    var offers = TrackerOffers()
    for opened in devices {
      let offered = offers.offers(for: opened.device)
      let choice = try Self.choice(opened.record.name, wish, offered)
      for case .ready(let tracker) in offered where tracker.kind == choice.kind { trackers.append((tracker, false)) }
      reports.append(
        DirtyReport.Device(name: "\(opened.record.name)", tracker: choice.kind, reason: choice.reason))
    }
  }

  static let remedy =
    "of a device that a process holds only the device's own log can be used; where there is none, only that process "
    + "itself can track: look at what the VMM says of its migration"

  private static func choice(
    _ name: DeviceName, _ wish: TrackerWish, _ offers: [TrackerOffer]
  ) throws(CommandFailure) -> TrackerChoice {
    let choice: TrackerChoice
    do throws(TrackerRefusal) {
      choice = try TrackerChoice(for: name, wish, from: offers)
    } catch {
      throw .refused("\(error): \(remedy)")
    }
    if choice.kind != .everything { return choice }
    // The choice says why each of the others is not there.
    let reason = choice.reason.split(separator: ";").dropFirst().joined(separator: ";").drop { $0 == " " }
    throw .refused("nothing tells what \(name) writes (\(reason)): \(remedy)")
  }

  /// Turns all trackers on, or none.
  func start() throws(CommandFailure) {
    for index in trackers.indices {
      do throws(TrackerError) {
        try trackers[index].tracker.start(map)
        trackers[index].isOn = true
      } catch {
        let problems = stop()
        let also = problems.isEmpty ? "" : "; and " + problems.joined(separator: "; ")
        throw .refused("\(reports[index].name): \(error)\(Self.remedy(error))\(also)")
      }
    }
  }

  private static func remedy(_ error: TrackerError) -> String {
    switch error.cause {
    case .errno(.invalidArgument), .errno(.busy):
      "; a log that is running already gives this answer: the VMM migrates (then leave it alone), or a dirty that was "
        + "killed has left it (then --turn-off). If neither, the device can't watch these ranges"
    case .errno(.notSupported):
      "; mlx5 answers so where its firmware's log can't take in as much as the ranges are together"
    case .errno(.outOfRange), .beyondLimits: "; name with --range only what is guest memory"
    default: ""
    }
  }

  /// Reads all trackers, and adds up what they say.
  func read(into bitmap: inout DirtyBitmap<PrivateWords>) throws(CommandFailure) {
    for index in trackers.indices {
      var own = DirtyBitmap(layout: map.layout)
      do throws(TrackerError) {
        try trackers[index].tracker.read(map.runs, for: .next, into: &own)
      } catch {
        if case .errno(.invalidArgument) = error.cause {
          // Not ours any more: turning off what may be another's log would take it from them.
          trackers[index].isOn = false
          throw .failed("\(reports[index].name): \(error): somebody else has turned the log off, a VMM that migrates?")
        }
        throw .failed("\(reports[index].name): \(error)")
      }
      reports[index].pages = own.count
      do throws(DirtyBitmapError) {
        try own.takeAll(into: &bitmap)
      } catch {
        throw .failed("\(error)")
      }
    }
  }

  /// Turns off what is on.
  /// - Returns: what could not be turned off, and why.
  func stop() -> [String] {
    var problems: [String] = []
    for index in trackers.indices where trackers[index].isOn {
      trackers[index].isOn = false
      do throws(TrackerError) {
        try trackers[index].tracker.stop()
      } catch {
        problems.append("\(reports[index].name): \(error); it may still be on: --turn-off")
      }
    }
    return problems
  }
}
