// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// What a file of `/etc/vfio-ferry/prepare.d` says of one physical function.
public struct PreparationFile: Hashable, Sendable {
  /// Where it is.
  public var path: String
  /// The physical function as the file calls it.
  public var device: String
  public var wish: PreparationWish

  /// What is wrong with a file, in a line.
  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public var path: String
    /// nil where it is the whole file that is wrong.
    public var line: Int?
    public var reason: String

    public var description: String { "\(path):" + (line.map { "\($0):" } ?? "") + " \(reason)" }
  }

  /// The folder of a system.
  public static func folder(root: SystemRoot) -> String { "\(root.prefix)/etc/vfio-ferry/prepare.d" }

  /// Reads a file.
  public init(_ path: String) throws(Problem) {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try Files.readBytes(path, maximum: Self.maximumSize + 1)
    } catch {
      throw Problem(path: Attribute.harmless(path), reason: "\(error.message) (\(error.name))")
    }
    guard bytes.count <= Self.maximumSize else {
      throw Problem(path: Attribute.harmless(path), reason: "it is larger than \(Self.maximumSize) bytes")
    }
    try self.init(path: Attribute.harmless(path), bytes)
  }

  /// Takes a file's bytes apart.
  init(path: String, _ bytes: [UInt8]) throws(Problem) {
    var reader = Reader()
    do throws(PlainTOML.Problem) {
      for entry in try PlainTOML(bytes).entries { try reader.take(entry) }
    } catch {
      throw Problem(path: path, line: error.line, reason: error.reason)
    }
    guard let device = reader.device else { throw Problem(path: path, reason: "it names no pf") }
    guard let functions = reader.functions else { throw Problem(path: path, reason: "it does not say how many vfs") }
    guard reader.addresses.count <= functions else {
      throw Problem(path: path, line: reader.addressesLine, reason: "there are more macs than vfs")
    }
    self.path = path
    self.device = device
    wish = PreparationWish(
      functions: functions, switchMode: reader.switchMode, addresses: reader.addresses, driver: reader.driver,
      isMigratable: reader.isMigratable)
  }

  /// More than an address for each of thousands of functions needs.
  static let maximumSize = 1 << 18
  static let keys = "pf, vfs, eswitch, macs, driver, migratable"
}

/// What has been read of a file.
private struct Reader {
  var device: String?
  var functions: Int?
  var switchMode: SwitchMode?
  var addresses: [MACAddress] = []
  var addressesLine = 0
  var driver: String?
  var isMigratable: Bool?

  mutating func take(_ entry: PlainTOML.Entry) throws(PlainTOML.Problem) {
    func wrong(_ reason: String, line: Int? = nil) -> PlainTOML.Problem {
      PlainTOML.Problem(line: line ?? entry.item.line, reason: reason)
    }
    let mismatch = "\(entry.key) is \(entry.item.value.kind), and has to be"
    switch (entry.key, entry.item.value) {
    case ("pf", .string(let text)):
      guard !text.isEmpty else { throw wrong("pf is empty") }
      device = text
    case ("vfs", .integer(let number)):
      guard (1...Int(UInt16.max)).contains(number) else { throw wrong("vfs has to be 1 or more, and 65535 at most") }
      functions = number
    case ("eswitch", .string(let text)):
      guard let mode = SwitchMode(rawValue: text) else { throw wrong("eswitch has to be \"legacy\" or \"switchdev\"") }
      switchMode = mode
    case ("macs", .array(let items)):
      addressesLine = entry.line
      for item in items {
        guard case .string(let text) = item.value else {
          throw wrong("macs has \(item.value.kind) in it, and has to have strings", line: item.line)
        }
        guard let address = MACAddress(text), address.isOfOne else {
          throw wrong("\"\(Attribute.harmless(text))\" is no MAC address of one function", line: item.line)
        }
        if addresses.contains(address) { throw wrong("\(address) is there twice", line: item.line) }
        addresses.append(address)
      }
    case ("driver", .string(let text)):
      guard PreparationWish.isDriver(text) else { throw wrong("\"\(Attribute.harmless(text))\" is no driver's name") }
      driver = text
    case ("migratable", .boolean(let value)): isMigratable = value
    case ("pf", _), ("eswitch", _), ("driver", _): throw wrong("\(mismatch) a string")
    case ("vfs", _): throw wrong("\(mismatch) a number")
    case ("macs", _): throw wrong("\(mismatch) an array of strings")
    case ("migratable", _): throw wrong("\(mismatch) true or false")
    default: throw wrong("\(entry.key) is unknown: there are \(PreparationFile.keys)", line: entry.line)
    }
  }
}

extension PreparationWish {
  /// Whether a text can be the name of a driver.
  public static func isDriver(_ text: String) -> Bool { ThrottleRecord.isName(text, most: 64) && text != "-" }
}

extension PreparationFile {
  /// The paths of all files in a folder, in the order of their names.
  public static func paths(in folder: String) -> [String] {
    Files.names(in: folder).filter { $0.hasSuffix(".toml") && !$0.hasPrefix(".") }.map { "\(folder)/\($0)" }
  }

  /// The file in a folder that names a physical function, whatever it calls it; nil where none does.
  /// - Throws: what is wrong with a file that may be the one: a damaged one, where no other names the function; or that two do.
  public static func find(
    _ device: PhysicalFunction, in folder: String, root: SystemRoot
  ) throws(Problem) -> PreparationFile? {
    try find(in: folder) { file in (try? PhysicalFunction(named: file.device, root: root)) == device }
  }

  /// The file in a folder that has exactly this for its `pf`, as ``find(_:in:root:)``.
  public static func find(named text: String, in folder: String) throws(Problem) -> PreparationFile? {
    try find(in: folder) { $0.device == text }
  }

  /// Looks that no two files of a folder name the same device, by whatever names. Damaged ones are passed over.
  public static func checkEachOnce(in folder: String, root: SystemRoot) throws(Problem) {
    var first: [String: String] = [:]
    for path in paths(in: folder) {
      guard let file = try? PreparationFile(path) else { continue }
      let name = (try? PhysicalFunction(named: file.device, root: root))?.handle ?? file.device
      if let other = first.updateValue(file.path, forKey: name) {
        throw Problem(path: file.path, reason: "it names the same device as \(other)")
      }
    }
  }

  private static func find(
    in folder: String, _ isMeant: (PreparationFile) -> Bool
  ) throws(Problem) -> PreparationFile? {
    var found: [PreparationFile] = []
    var damage: Problem?
    for path in paths(in: folder) {
      do throws(Problem) {
        let file = try PreparationFile(path)
        if isMeant(file) { found.append(file) }
      } catch {
        damage = damage ?? error
      }
    }
    if found.count > 1 {
      throw Problem(path: found[1].path, reason: "it names the same device as \(found[0].path)")
    }
    if found.isEmpty, let damage { throw damage }
    return found.first
  }
}
