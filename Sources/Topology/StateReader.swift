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
    /// How many threads there are.
    var threads = 0
  }

  private let read: @Sendable (String) -> String?
  private let most: Int
  private let state = Mutex(State())

  /// The reader of that system; by default of this one.
  public convenience init(root: SystemRoot = SystemRoot()) { self.init { Self.state(at: $0, root) } }

  /// - Parameters:
  ///   - most: threads at once.
  ///   - read: the state of the device whose node's folder this is; it may not come back.
  init(most: Int = 32, read: @escaping @Sendable (String) -> String?) {
    self.most = most
    self.read = read
  }

  /// The states of devices, by the folder of their nodes in sysfs; without those of which debugfs says nothing, and those that
  /// could not be asked.
  public func states(of devices: [DeviceSighting]) -> [String: String] {
    // Devices that have not answered an earlier question are not asked again; of the others nothing is known until they answer.
    let paths = state.withLock { state in
      state.known = [:]
      return devices.map(\.path).filter { !state.asked.contains($0) }
    }
    let (questions, done) = (BlockingQueue<String>(), BlockingQueue<Void>())
    for path in paths { questions.put(path) }
    // No device waits for another as long as there is a thread for it.
    var started = 0
    while started < paths.count, start(questions, done) { started += 1 }
    var waiting = started == 0 ? 0 : paths.count
    let limit = monotonicMicroseconds() + Self.patience
    while waiting > 0, done.take(until: limit) != nil { waiting -= 1 }
    // Those that were not asked by now are asked the next time.
    while questions.take(until: 0) != nil {}
    return state.withLock { state in
      var found: [String: String] = [:]
      for device in devices {
        found[device.path] = state.asked.contains(device.path) ? Self.busy : state.known[device.path]
      }
      return found
    }
  }

  /// Starts a thread that asks one after the other.
  /// - Returns: whether there is one.
  private func start(_ questions: BlockingQueue<String>, _ done: BlockingQueue<Void>) -> Bool {
    let isRoom = state.withLock { state in
      if state.threads >= most { return false }
      state.threads += 1
      return true
    }
    guard isRoom else { return false }
    let thread = try? BlockingThread(name: "state") { [self] in
      while let path = questions.take(until: 0) { ask(path, done) }
      state.withLock { $0.threads -= 1 }
    }
    if thread == nil { state.withLock { $0.threads -= 1 } }
    return thread != nil
  }

  private func ask(_ path: String, _ done: BlockingQueue<Void>) {
    let isFirst = state.withLock { $0.asked.insert(path).inserted }
    if isFirst {
      let answer = read(path)
      state.withLock { state in
        state.asked.remove(path)
        state.known[path] = answer
      }
    }
    done.put(())
  }

  /// - Parameter path: PARENT/vfio-dev/vfioN.
  private static func state(at path: String, _ root: SystemRoot) -> String? {
    guard let device = path.split(separator: "/").dropLast(2).last else { return nil }
    return Attribute.text("\(root.debug)/vfio/\(device)/migration/state").map {
      MigrationState(name: $0)?.name ?? "unknown"
    }
  }
}
