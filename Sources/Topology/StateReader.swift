// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// Reads devices' migration states in debugfs, which answers for a device only when none of its arcs is under way. Whoever asks
/// does not wait for that: it gets an answer soon, in which such a device is `busy`.
public final class StateReader: Sendable {
  /// What is said of a device whose arc is under way, or hangs.
  public static let busy = "busy"
  /// Microseconds in which devices have to have answered.
  private static let patience: UInt64 = 200_000

  private struct State {
    /// By the folder of a device's node.
    var known: [String: String] = [:]
    var asked: Set<String> = []
  }

  private let root: SystemRoot
  private let state = Mutex(State())

  /// The reader of that system; by default of this one.
  public init(root: SystemRoot = SystemRoot()) { self.root = root }

  /// The states of devices, by the folder of their nodes in sysfs; without those of which debugfs says nothing.
  public func states(of devices: [DeviceSighting]) -> [String: String] {
    // Devices that have not answered an earlier question are not asked again.
    let paths = state.withLock { state in
      let paths = devices.map(\.path).filter { !state.asked.contains($0) }
      state.asked.formUnion(paths)
      return paths
    }
    let done = BlockingQueue<Void>()
    let thread = try? BlockingThread(name: "states") { [self] in
      for path in paths {
        let answer = read(path)
        state.withLock { state in
          state.asked.remove(path)
          state.known[path] = answer
        }
      }
      done.put(())
    }
    if thread != nil {
      _ = done.take(until: monotonicMicroseconds() + Self.patience)
    } else {
      state.withLock { $0.asked.subtract(paths) }
    }
    return state.withLock { state in
      var found: [String: String] = [:]
      for device in devices {
        found[device.path] = state.asked.contains(device.path) ? Self.busy : state.known[device.path]
      }
      // Of those that have gone nothing is kept.
      state.known = state.known.filter { found[$0.key] != nil }
      return found
    }
  }

  /// - Parameter path: PARENT/vfio-dev/vfioN.
  private func read(_ path: String) -> String? {
    guard let device = path.split(separator: "/").dropLast(2).last else { return nil }
    return Attribute.text("\(root.debug)/vfio/\(device)/migration/state").map {
      MigrationState(name: $0)?.name ?? "unknown"
    }
  }
}
