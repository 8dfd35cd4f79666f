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

  private let read: @Sendable (String) -> String?
  private let state = Mutex(State())

  /// The reader of that system; by default of this one.
  public convenience init(root: SystemRoot = SystemRoot()) { self.init { Self.state(at: $0, root) } }

  /// - Parameter read: the state of the device whose node's folder this is; it may not come back.
  init(read: @escaping @Sendable (String) -> String?) { self.read = read }

  /// The states of devices, by the folder of their nodes in sysfs; without those of which debugfs says nothing.
  public func states(of devices: [DeviceSighting]) -> [String: String] {
    // Devices that have not answered an earlier question are not asked again.
    let paths = state.withLock { state in
      let paths = devices.map(\.path).filter { !state.asked.contains($0) }
      state.asked.formUnion(paths)
      return paths
    }
    let done = BlockingQueue<Void>()
    // A thread for each, so that none waits for another.
    var waiting = paths.count { ask($0, done) }
    let limit = monotonicMicroseconds() + Self.patience
    while waiting > 0, done.take(until: limit) != nil { waiting -= 1 }
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

  /// Asks one, on a thread of its own.
  /// - Returns: whether it was asked.
  private func ask(_ path: String, _ done: BlockingQueue<Void>) -> Bool {
    let thread = try? BlockingThread(name: "state") { [self] in
      let answer = read(path)
      state.withLock { state in
        state.asked.remove(path)
        state.known[path] = answer
      }
      done.put(())
    }
    if thread == nil { state.withLock { _ = $0.asked.remove(path) } }
    return thread != nil
  }

  /// - Parameter path: PARENT/vfio-dev/vfioN.
  private static func state(at path: String, _ root: SystemRoot) -> String? {
    guard let device = path.split(separator: "/").dropLast(2).last else { return nil }
    return Attribute.text("\(root.debug)/vfio/\(device)/migration/state").map {
      MigrationState(name: $0)?.name ?? "unknown"
    }
  }
}
