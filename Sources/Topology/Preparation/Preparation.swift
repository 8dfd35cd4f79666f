// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Makes virtual functions of a physical one, ready to be migrated: the mode of its switch, their number, addresses,
/// `migratable`, and a driver of VFIO's; and takes it back. Each write is told before it is done.
public struct Preparation {
  /// The physical function.
  public let device: PhysicalFunction
  private let root: SystemRoot
  private let host: any PreparationHost
  private let folder: PreparationFolder

  /// Below another root there is only sysfs: the kernel here knows nothing of that system.
  /// - Parameter holders: says who has a VFIO device open, a line for each.
  public init(
    _ device: PhysicalFunction, root: SystemRoot = SystemRoot(),
    holders: @escaping @Sendable (DeviceRecord) -> [String]
  ) {
    let network: any NetworkPreparation = root.prefix.isEmpty ? KernelNetwork() : NoNetwork()
    let addresses: @Sendable () -> [String: [String]] = {
      root.prefix.isEmpty ? (try? InterfaceAddresses.all()) ?? [:] : [:]
    }
    self.init(
      device, root: root,
      host: SystemPreparationHost(
        device: device, root: root, network: network, holders: holders, addresses: addresses))
  }

  init(_ device: PhysicalFunction, root: SystemRoot, host: any PreparationHost) {
    self.device = device
    self.root = root
    self.host = host
    folder = PreparationFolder(root: root)
  }

  /// How a run ended.
  public enum Outcome: Hashable, Sendable {
    /// All was as it was to be before.
    case nothingToDo
    /// It is now; or, where nothing was to be written, it would be.
    case done
  }

  /// Prepares the function.
  /// - Parameters:
  ///   - dryRun: whether to tell the writes only.
  ///   - announce: told of each write before it is done, as an operator would type it.
  @discardableResult
  public func prepare(
    _ wish: PreparationWish, dryRun: Bool = false, announce: @escaping (String) -> Void
  ) throws(PreparationError) -> Outcome {
    func steps(_ record: PreparationRecord?) throws(PreparationError) -> [PreparationStep] {
      let state = try state()
      do throws(PreparationPlan.Refusal) {
        return try PreparationPlan(
          wish, on: state, driver: driver(for: wish, state), autoprobe: record?.original(.autoprobe)
        ).steps
      } catch {
        throw self.error(.refused(error.reason))
      }
    }
    if dryRun {
      // Also for those who can't write a record, or read one.
      var record: PreparationRecord?
      if let boot = try? boot(), case .held(_, let written) = folder.find(name, boot: boot) { record = written }
      return tell(try steps(record), announce)
    }
    guard let claim = try claim(unless: { () throws(PreparationError) in try steps(nil).isEmpty }) else {
      return .nothingToDo
    }
    return try carryOut(claim, announce) { () throws(PreparationError) in try steps(claim.record) }
  }

  /// Gives back what was there before the function was prepared; where nothing tells what that was, removes its functions.
  /// - Parameter note: told what is not a write.
  @discardableResult
  public func undo(
    dryRun: Bool = false, announce: @escaping (String) -> Void, note: (String) -> Void
  ) throws(PreparationError) -> Outcome {
    func steps() throws(PreparationError) -> [PreparationStep] { PreparationPlan(undoing: try state()).steps }
    func toldSteps() throws(PreparationError) -> [PreparationStep] {
      let steps = try steps()
      if !steps.isEmpty {
        note("nothing tells what \(device) was before: its VFs are removed, and the mode of its switch stays")
      }
      return steps
    }
    let found = try find()
    if case .held(let held, let record) = found, !record.entries.isEmpty {
      try refuseForeign(record)
      let steps = try remaining(
        record.entries.reversed().map { PreparationStep(setting: $0.setting, value: $0.value) })
      if dryRun { return tell(steps, announce) }
      try refuseUsers(of: steps)
      try run(announce).undo(held, record)
      return steps.isEmpty ? .nothingToDo : .done
    }
    if dryRun { return tell(try toldSteps(), announce) }
    guard let claim = try claim(found: found, unless: { () throws(PreparationError) in try steps().isEmpty }) else {
      return .nothingToDo
    }
    return try carryOut(claim, isUndoing: true, announce, toldSteps)
  }

  // MARK: What is there

  private var name: String { PreparationRecord(bus: device.bus, device: device.name, boot: "").name }

  private func boot() throws(PreparationError) -> String {
    guard let boot = ProcessIdentity.boot(proc: root.proc) else {
      throw error(.record("\(root.proc) does not say which run of the machine this is"))
    }
    return boot
  }

  private func state() throws(PreparationError) -> PreparationState {
    guard let count = try host.value(of: .functions).flatMap({ Int($0) }), count >= 0, count <= Int(UInt16.max) else {
      throw error(.nothing("its sriov_numvfs can't be read"))
    }
    let isPCI = device.bus == "pci"
    var state = PreparationState(
      switchMode: try host.value(of: .switchMode), autoprobe: try host.value(of: .autoprobe), count: count,
      maximum: Attribute.text("\(device.folder)/sriov_totalvfs").flatMap { Int($0) }, functions: [],
      hasPCIFunctions: isPCI, addresses: [])
    for number in 0..<count {
      let address = try host.value(of: .address(number))
      state.addresses.append(address)
      guard isPCI else { continue }
      guard let driver = try host.value(of: .driver(number)) else {
        throw error(.nothing("sysfs shows no VF \(number) of \(count): is the machine just removing it?"))
      }
      state.functions.append(
        PreparationState.Function(
          address: address, isMigratable: try host.value(of: .migratable(number)),
          driverOverride: try host.value(of: .driverOverride(number)) ?? "", driver: driver))
    }
    return state
  }

  private func driver(for wish: PreparationWish, _ state: PreparationState) -> ChosenDriver? {
    guard state.hasPCIFunctions else { return nil }
    return VariantDriver(root: root).choose(for: functionAlias, asked: wish.driver)
  }

  /// The modalias of the virtual functions; before they are there, the physical function's with their device in it.
  private var functionAlias: String? {
    if let address = device.function(0) { return Attribute.text("\(root.sys)/bus/pci/devices/\(address)/modalias") }
    guard let own = Attribute.text("\(device.folder)/modalias"), own.hasPrefix("pci:v"),
      let id = Attribute.text("\(device.folder)/sriov_vf_device"), (1...4).contains(id.utf8.count)
    else { return nil }
    // "pci:v000015B3d00001021sv…": eight digits each.
    let (start, digits) = (own.prefix(13), own.dropFirst(13))
    guard digits.first == "d", digits.dropFirst(9).hasPrefix("sv") else { return nil }
    return start + "d" + String(repeating: "0", count: 8 - id.utf8.count) + id.uppercased() + digits.dropFirst(9)
  }

  // MARK: Doing it

  /// The device's record, held: no other run changes the device meanwhile.
  private struct Claim {
    let held: HeldText
    let record: PreparationRecord
  }

  /// The record; one that another run holds is refused.
  private func find() throws(PreparationError) -> PreparationFolder.Found {
    let found = folder.find(name, boot: try boot())
    switch found {
    case .anothers: throw error(.refused("another process is preparing it"))
    case .damaged(let reason): throw error(.record(reason))
    case .none, .held: return found
    }
  }

  /// Claims the record, or a new one. What is there counts only when it is looked at with the record held.
  /// - Parameter isIdle: whether nothing is to be done, which needs no record.
  /// - Returns: nil where there is no record, and nothing to do.
  private func claim(
    found: PreparationFolder.Found? = nil, unless isIdle: () throws(PreparationError) -> Bool
  ) throws(PreparationError) -> Claim? {
    let found = if let found { found } else { try find() }
    if case .held(let held, let record) = found { return Claim(held: held, record: record) }
    if try isIdle() { return nil }
    let record = PreparationRecord(bus: device.bus, device: device.name, boot: try boot())
    return Claim(held: try run({ _ in }).write(record, over: nil), record: record)
  }

  private func carryOut(
    _ claim: Claim, isUndoing: Bool = false, _ announce: @escaping (String) -> Void,
    _ plan: () throws(PreparationError) -> [PreparationStep]
  ) throws(PreparationError) -> Outcome {
    do throws(PreparationError) {
      let steps = try plan()
      try refuseUsers(of: steps)
      // What is undone for good is not to be given back by the next --undo.
      try run(announce).carryOut(steps, claim.held, claim.record, isWritten: !isUndoing)
      return steps.isEmpty ? .nothingToDo : .done
    } catch {
      // Where what is not undone was written down, this is no longer the record.
      if claim.record.entries.isEmpty { claim.held.remove() }
      throw error
    }
  }

  private func run(_ announce: @escaping (String) -> Void) -> PreparationRun {
    PreparationRun(device: device, host: host, folder: folder) { announce("\($0)") }
  }

  /// What has another value by now than any run of this program gave it is somebody else's, and so may be all that goes with it.
  private func refuseForeign(_ record: PreparationRecord) throws(PreparationError) {
    var seen: Set<PreparationSetting> = []
    var foreign: [String] = []
    for entry in record.entries.reversed() where seen.insert(entry.setting).inserted {
      // A function that is gone has taken its settings with it.
      guard let now = try host.value(of: entry.setting), !record.own(entry.setting).contains(now) else { continue }
      foreign.append("\(entry.setting) was set to \"\(entry.changed)\" and is \"\(Attribute.harmless(now))\"")
    }
    guard foreign.isEmpty else {
      throw error(
        .refused(
          "changed since by somebody else: \(foreign.joined(separator: "; ")); set it back, or remove "
            + "\(folder.folder.path)/\(name), and nothing tells any more what was there before"))
    }
  }

  /// Before anything is changed.
  private func refuseUsers(of steps: [PreparationStep]) throws(PreparationError) {
    var seen: Set<String> = []
    let users = steps.flatMap { host.users(hitBy: $0.setting, $0.value) }.filter { seen.insert($0).inserted }
    guard users.isEmpty else { throw error(.refused("in use: \(users.joined(separator: "; "))")) }
  }

  /// Those of some steps that would change something, one after the other.
  private func remaining(_ steps: [PreparationStep]) throws(PreparationError) -> [PreparationStep] {
    var remaining: [PreparationStep] = []
    var expected: [PreparationSetting: String] = [:]
    for step in steps {
      var now = expected[step.setting]
      if now == nil { now = try host.value(of: step.setting) }
      guard let now, now != step.value else { continue }
      remaining.append(step)
      expected[step.setting] = step.value
    }
    return remaining
  }

  private func tell(_ steps: [PreparationStep], _ announce: (String) -> Void) -> Outcome {
    var mode: String?
    for step in steps {
      for write in host.writes(step.setting, step.value, mode: mode) {
        announce("\(write)" + (step.isOptional ? "   # where the device knows of it" : ""))
      }
      if step.setting == .switchMode { mode = step.value }
    }
    return steps.isEmpty ? .nothingToDo : .done
  }

  private func error(_ cause: PreparationError.Cause) -> PreparationError {
    PreparationError(device: "\(device)", cause: cause)
  }
}
